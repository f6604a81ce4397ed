"""From figures to a verdict, with the sentences behind it. A difference that may be noise is never claimed."""

from dataclasses import dataclass
from math import inf, log

from app.spec.evaluate import Limits
from app.spec.figures import MetricChange
from app.spec.report import LatencyChange, OutputParity, Size, Verdict
from worker.engine.measure import phrases
from worker.engine.measure.comparison import RowSource
from worker.engine.measure.limits import missed_limits
from worker.engine.measure.quality import (
    COLLAPSED_AGREEMENT,
    ROUNDING_DB,
    Finding,
    metric_finding,
    output_finding,
)

TOLERATED_SLOWDOWN = 0.9
"""A model that shrank may be slower by a tenth. `min_speedup` replaces it."""
TOLERATED_GROWTH = 1.1
"""A model that got faster may be larger by a tenth. `max_size_ratio` replaces it."""
FEWEST_ROWS = 100
"""Told where there are no test rows: below some 70 even rows that all stay right hide a loss that nothing excuses."""


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
    """Outputs of integers, booleans or texts, judged by agreement alone."""
    judged: str | None = None
    """The output that the metrics judge."""
    uncompared: tuple[str, ...] = ()
    """Outputs that could not be compared: not known to be equal, they are a failure."""
    data_dependent: tuple[str, ...] = ()
    """Likewise, but their size follows from the values, and differs."""
    row_source: RowSource = "test"
    exact: bool = False
    """Only the format has changed: outputs that differ by rounding need no more proof."""
    elsewhere: str | None = None
    """The target's profile, where this machine cannot show the target's speed."""


@dataclass(frozen=True)
class Judgement:
    """The verdict and what led to it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    missed_limits: tuple[str, ...]
    quality_kept: bool = True
    """Whether no output and no metric has lost anything, for all that the rows can tell."""


def judge(figures: Figures) -> Judgement:
    """Weigh gains against losses.

    `unusable`: values that are not finite, outputs that could not be compared, a missed limit, or collapsed quality.
    `regressed`: something was lost beyond the noise and nothing gained, or more was lost than a gain excuses.
    `unproven`: the rows cannot exclude a loss that nothing excuses. `improved`: smaller, faster or more accurate
    beyond the noise, with losses, if any, within what is tolerated. `unchanged`: none of that.
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
    quality = _Quality(figures)
    broken = quality.broken()
    verdict: Verdict = "unusable" if broken or missed else _weigh(figures, quality)
    doubts = quality.doubts() if verdict == "unproven" else ()
    reasons = (*broken, *missed, *_sentences(figures, quality), *doubts, *_weighed(verdict, figures, quality))
    return Judgement(verdict, reasons, missed, quality.kept())


class _Quality:
    """What became of the metrics and of every output, beside one another."""

    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        self.outputs = tuple(
            (output, output_finding(output, discrete=output.output in figures.discrete)) for output in figures.parity
        )
        same = any(output.output == figures.judged and _rounded(output) for output in figures.parity)
        self.metrics = tuple((change, metric_finding(change, figures.limits, same=same)) for change in figures.metrics)
        self.at_chance = tuple(change for change in figures.metrics if at_chance(change))

    def broken(self) -> tuple[str, ...]:
        """Why the artifact is of no use, by its outputs."""
        reasons = [phrases.uncompared(name) for name in self.figures.uncompared]
        if self.figures.non_finite:
            reasons.append(phrases.not_finite(self.figures.non_finite))
        reasons += [
            phrases.collapsed_metric(change) for change, finding in self.metrics if finding.state == "collapsed"
        ]
        counted = self._counted()
        reasons += [phrases.collapsed_output(output) for output, finding in counted if finding.state == "collapsed"]
        return tuple(reasons)

    def losses(self) -> list[bool]:
        """For each loss beyond the noise: whether a gain excuses it."""
        findings = [finding for _, finding in (*self.metrics, *self._counted())]
        return [finding.state == "tolerated" for finding in findings if finding.state in {"lost", "tolerated"}]

    def kept(self) -> bool:
        """Whether nothing has lost, collapsed or is in doubt by its own figures."""
        return all(finding.state in {"kept", "tolerated"} for _, finding in (*self.metrics, *self._counted()))

    def doubts(self) -> tuple[str, ...]:
        """What keeps the rows from proving that nothing was lost."""
        figures = self.figures
        if not self.compared:
            return (phrases.NOT_COMPARED,)
        if figures.exact:
            return ()
        reasons = [phrases.data_dependent(name) for name in figures.data_dependent]
        reasons += [finding.doubt for _, finding in (*self.metrics, *self._counted()) if finding.state == "unproven"]
        if figures.row_source == "synthetic" or (
            figures.row_source == "calibration" and not all(_rounded(output) for output, _ in self.outputs)
        ):
            reasons.append(phrases.unseen_rows(figures.row_source, FEWEST_ROWS))
        return tuple(reasons)

    @property
    def compared(self) -> bool:
        """Whether anything was compared at all."""
        return bool(self.metrics or self.outputs or self.figures.data_dependent)

    def _counted(self) -> list[tuple[OutputParity, Finding]]:
        """The outputs that count: all but the one that labels judge, which a training may well have changed.

        That one counts, too, where the labels prove nothing, or see no gain while most answers are others.
        """
        if not self.metrics or self.at_chance:
            return list(self.outputs)
        gained = any(change.outcome == "gain" for change, _ in self.metrics)
        return [
            (output, finding)
            for output, finding in self.outputs
            if output.output != self.figures.judged or (not gained and _mostly_others(output))
        ]


def _rounded(output: OutputParity) -> bool:
    return not output.non_finite and (output.sqnr_db is None or output.sqnr_db >= ROUNDING_DB)


def at_chance(change: MetricChange) -> bool:
    """Whether the original is not shown to be better than always giving the most frequent label."""
    return change.chance is not None and change.before_low is not None and change.before_low <= change.chance < 1


def _mostly_others(output: OutputParity) -> bool:
    share = output.agreement_high if output.agreement_high is not None else output.top1_agreement
    return share is not None and share < COLLAPSED_AGREEMENT


def _weigh(figures: Figures, quality: _Quality) -> Verdict:
    losses = [*quality.losses(), *_cost_losses(figures)]
    gains = _gains(figures)
    if losses and not (gains and all(losses)):
        return "regressed"
    if quality.doubts() and (gains or quality.compared):
        return "unproven"
    return "improved" if gains else "unchanged"


def _weighed(verdict: Verdict, figures: Figures, quality: _Quality) -> tuple[str, ...]:
    """Why a gain did not decide, where there is one; how to accept the loss."""
    if verdict != "regressed" or not _gains(figures):
        return ()
    reasons = []
    if not all(quality.losses()):
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


def _sentences(figures: Figures, quality: _Quality) -> tuple[str, ...]:
    size = phrases.size(figures.size)
    metrics = [finding.sentence for _, finding in quality.metrics]
    chance = [phrases.at_chance(change) for change in quality.at_chance]
    outputs = [finding.sentence for _, finding in quality.outputs]
    latency = [phrases.latency(change, alone=len(figures.latency) == 1) for change in figures.latency]
    return (size, *metrics, *chance, *outputs, *latency)
