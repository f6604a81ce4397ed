"""From figures to a verdict, with the sentences behind it. A difference that may be noise is never claimed."""

from dataclasses import dataclass
from math import inf, log

from app.spec.evaluate import Limits
from app.spec.figures import MetricChange
from app.spec.report import LatencyChange, OutputParity, Size, Verdict
from worker.engine.measure import phrases
from worker.engine.measure.limits import missed_limits

TOLERATED_SLOWDOWN = 0.9
"""A model that shrank may be slower by a tenth. `min_speedup` replaces it."""
TOLERATED_GROWTH = 1.1
"""A model that got faster may be larger by a tenth. `max_size_ratio` replaces it."""
LOST_SQNR_DB = 10.0
"""Without labels: the error has a tenth of the output's power, which counts as a loss."""
COLLAPSED_SQNR_DB = 0.0
"""Without labels: there is as much error as output."""
COLLAPSED_AGREEMENT = 0.5
"""Without labels: most rows get another answer (and the error counts as a loss: near ties flip easily)."""

LOST_AGREEMENT = 0.99
"""Without labels: an output of integers or booleans that differs on more than one row in a hundred is a loss."""


@dataclass(frozen=True)
class Figures:
    """What was measured of one target."""

    size: Size
    metrics: tuple[MetricChange, ...]
    latency: tuple[LatencyChange, ...]
    parity: tuple[OutputParity, ...]
    limits: Limits
    batches: tuple[int, ...] = ()
    """Batch sizes that speed was asked for."""
    non_finite: int = 0
    """Values that are not finite where the original's are."""
    discrete: frozenset[str] = frozenset()
    """Outputs of integers or booleans, judged by agreement alone."""
    elsewhere: str | None = None
    """The target's profile, where this machine cannot show the target's speed."""


@dataclass(frozen=True)
class Judgement:
    """The verdict and what led to it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    missed_limits: tuple[str, ...]


def judge(figures: Figures) -> Judgement:
    """Weigh gains against losses.

    `unusable`: values that are not finite, a missed limit, or collapsed quality. `regressed`: something was
    lost beyond the noise and nothing gained, or more was lost than a gain excuses. `improved`: smaller,
    faster or more accurate beyond the noise, with losses, if any, within what is tolerated. `unchanged`: none
    of that.
    """
    missed = missed_limits(
        figures.limits,
        size=figures.size,
        metrics=figures.metrics,
        latency=figures.latency,
        parity=figures.parity,
        batches=figures.batches,
        elsewhere=figures.elsewhere,
    )
    broken = _broken(figures)
    verdict: Verdict = "unusable" if broken or missed else _weigh(figures)
    return Judgement(verdict, (*broken, *missed, *_sentences(figures), *_weighed(verdict, figures)), missed)


def _broken(figures: Figures) -> tuple[str, ...]:
    reasons = []
    if figures.non_finite:
        reasons.append(phrases.not_finite(figures.non_finite))
    reasons += [phrases.collapsed_metric(change) for change in figures.metrics if _collapsed(change, figures.limits)]
    if not figures.metrics:
        reasons += [phrases.collapsed_output(output) for output in figures.parity if _collapsed_output(output, figures)]
    return tuple(reasons)


def _weigh(figures: Figures) -> Verdict:
    losses = [*_quality_losses(figures), *_cost_losses(figures)]
    if not _gains(figures):
        return "regressed" if losses else "unchanged"
    if not all(losses):
        return "regressed"
    return "improved" if _compared(figures) else "unchanged"


def _compared(figures: Figures) -> bool:
    return bool(figures.metrics or figures.parity)


def _weighed(verdict: Verdict, figures: Figures) -> tuple[str, ...]:
    """Why a gain did not decide, where there is one; how to accept the loss."""
    if verdict == "unchanged" and _gains(figures) and not _compared(figures):
        return ("The outputs were not compared, so the gain is not claimed as an improvement.",)
    if verdict != "regressed" or not _gains(figures):
        return ()
    reasons = []
    if not all(_quality_losses(figures)):
        reasons.append("More quality was lost than a gain excuses; `evaluate.limits.max_drop` can allow it.")
    if not all(_cost_losses(figures)):
        reasons.append(
            "A tenth in size or speed is the most that a gain elsewhere excuses, and only a larger gain does; "
            "`evaluate.limits` (min_speedup, max_size_ratio) can allow more."
        )
    return tuple(reasons)


def _gains(figures: Figures) -> bool:
    changes: list[Size | LatencyChange | MetricChange] = [figures.size, *figures.latency, *figures.metrics]
    return any(change.outcome == "gain" for change in changes)


def _quality_losses(figures: Figures) -> list[bool]:
    """For each loss of quality beyond the noise: whether a gain excuses it."""
    if figures.metrics:
        return [_tolerated(change, figures.limits) for change in figures.metrics if change.outcome == "loss"]
    return [False for output in figures.parity if _lost_output(output, figures)]


def _cost_losses(figures: Figures) -> list[bool]:
    """For growth and each slowdown beyond the noise: whether a gain excuses it."""
    limits, gain, size = figures.limits, _cost_gain(figures), figures.size
    slower = [change.speedup for change in figures.latency if change.outcome == "loss"]
    if limits.max_size_ratio is None:
        growth = size.ratio <= TOLERATED_GROWTH and log(size.ratio) < gain
    else:
        growth = size.ratio <= limits.max_size_ratio
    if limits.min_speedup is None:
        slowdowns = [speedup >= TOLERATED_SLOWDOWN and -log(speedup) < gain for speedup in slower]
    else:
        slowdowns = [speedup >= limits.min_speedup for speedup in slower]
    return ([growth] if size.outcome == "loss" else []) + slowdowns


def _cost_gain(figures: Figures) -> float:
    """The largest gain in size or speed, as the logarithm of its factor; quality gained has no price."""
    if any(change.outcome == "gain" for change in figures.metrics):
        return inf
    faster = [log(change.speedup) for change in figures.latency if change.outcome == "gain"]
    return max([*faster, -log(figures.size.ratio) if figures.size.outcome == "gain" else 0.0])


def _tolerated(change: MetricChange, limits: Limits) -> bool:
    if change.metric in limits.max_drop:
        return change.drop <= limits.max_drop[change.metric]
    return change.kind.tolerates(change.before, change.drop)


def _collapsed(change: MetricChange, limits: Limits) -> bool:
    if change.metric in limits.max_drop:
        return False  # what is acceptable has been said; beyond it is a missed limit
    return change.kind.collapses(change.before, change.drop_low)


def _lost_output(output: OutputParity, figures: Figures) -> bool:
    if output.output in figures.discrete:
        return _disagrees(output, LOST_AGREEMENT)
    return _below(output, LOST_SQNR_DB)


def _collapsed_output(output: OutputParity, figures: Figures) -> bool:
    disagrees = _disagrees(output, COLLAPSED_AGREEMENT)
    if output.output in figures.discrete:
        return disagrees
    return _below(output, COLLAPSED_SQNR_DB) or (disagrees and _below(output, LOST_SQNR_DB))


def _disagrees(output: OutputParity, least: float) -> bool:
    return output.top1_agreement is not None and output.top1_agreement < least


def _below(output: OutputParity, decibels: float) -> bool:
    return output.sqnr_db is not None and output.sqnr_db < decibels


def _sentences(figures: Figures) -> tuple[str, ...]:
    size = phrases.size(figures.size)
    metrics = [phrases.metric(change) for change in figures.metrics]
    unlabelled = [] if figures.metrics else [_likeness(output, figures) for output in figures.parity]
    latency = [phrases.latency(change, alone=len(figures.latency) == 1) for change in figures.latency]
    return (size, *metrics, *unlabelled, *latency)


def _likeness(output: OutputParity, figures: Figures) -> str:
    if output.output in figures.discrete:
        return phrases.agreement(output, LOST_AGREEMENT)
    return phrases.likeness(output, LOST_SQNR_DB)
