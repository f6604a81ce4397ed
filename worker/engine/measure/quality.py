"""What became of every metric and output: kept, lost, collapsed, or not to be told by so few rows."""

from dataclasses import dataclass
from math import ceil, isfinite
from typing import Literal

from app.spec.evaluate import Limits
from app.spec.figures import MetricChange
from app.spec.report import OutputParity
from worker.engine.measure import phrases
from worker.engine.measure.intervals import count_to_tell

ROUNDING_DB = 60.0
"""Float32 in another order of sums lies above 100 dB; a wrong operator lies below 30. What lies above this has lost
nothing, whatever the rows."""
LOST_SQNR_DB = 10.0
"""Of values: the error has a tenth of the output's power, which counts as a loss."""
COLLAPSED_SQNR_DB = 0.0
"""There is as much error as output: values have collapsed, and scores that keep their answers have lost."""
LOST_AGREEMENT = 0.9
"""Of answers: 8 bits keep 93 to 99 of 100 on networks whose accuracy they keep; near ties flip both ways."""
LOST_INTEGERS = 0.99
"""Of outputs that are integers, booleans or texts: these have no near ties that an argmax does not have already."""
COLLAPSED_AGREEMENT = 0.5
"""Most answers are others."""

State = Literal["kept", "lost", "tolerated", "collapsed", "unproven"]


@dataclass(frozen=True)
class Finding:
    """What became of one metric or output, and the sentence that says so."""

    state: State
    sentence: str
    doubt: str = ""
    """Why it is not proven, and how many rows would tell."""


def metric_finding(change: MetricChange, limits: Limits, *, same: bool = False) -> Finding:
    """By the interval of the loss; a limit on the metric replaces what is tolerated.

    `same`: the output that the metric judges differs by rounding at most, which proves more than any rows do.
    """
    sentence = phrases.metric(change)
    limit = limits.max_drop.get(change.metric)
    tolerated = change.kind.tolerates(change.before, change.drop) if limit is None else change.drop <= limit
    if limit is None and change.kind.collapses(change.before, change.drop_low):
        return Finding("collapsed", sentence)
    if change.outcome == "loss":
        return Finding("tolerated" if tolerated else "lost", sentence)
    bound = max(change.kind.inexcusable(change.before), limit or 0.0)
    if change.outcome == "noise" and not same and (not tolerated or change.drop_high > bound):
        return Finding("unproven", sentence, phrases.undecided_metric(change))
    return Finding("kept", sentence)


def output_finding(output: OutputParity, *, discrete: bool) -> Finding:
    """By the answers where the output has some, with the interval of their share; else by its signal to noise.

    `discrete`: the output is of integers, booleans or texts, every value of which is an answer.
    """
    if output.sqnr_db is None and output.top1_agreement in {None, 1.0}:
        return Finding("kept", phrases.likeness(output, discrete=discrete))
    if output.top1_agreement is None:
        return _by_noise(output)
    if discrete:
        return _by_answers(output, output.top1_agreement, LOST_INTEGERS, discrete=True)
    if _below(output, COLLAPSED_SQNR_DB) and output.top1_agreement >= COLLAPSED_AGREEMENT:
        loss = f"below {COLLAPSED_SQNR_DB:g} dB counts as a loss, whatever the answers"
        return Finding("lost", phrases.likeness(output, loss))
    return _by_answers(output, output.top1_agreement, LOST_AGREEMENT, discrete=False)


def _by_answers(output: OutputParity, share: float, least: float, *, discrete: bool) -> Finding:
    """`least` is the share below which answers are lost; that they are not is shown down to `LOST_AGREEMENT`."""
    low, high = _interval(output, share)
    if high < least:
        loss = f"below {least:.0%} counts as a loss"
        state: State = "collapsed" if high < COLLAPSED_AGREEMENT else "lost"
        return Finding(state, phrases.likeness(output, loss, discrete=discrete))
    rounded = not discrete and output.sqnr_db is not None and output.sqnr_db >= ROUNDING_DB
    sentence = phrases.likeness(output, discrete=discrete)
    if rounded or (share >= least and low >= LOST_AGREEMENT):
        return Finding("kept", sentence)
    bound = least if share < least else LOST_AGREEMENT
    doubt = phrases.undecided_answers(output, (low, high), bound, _rows_to_tell(output, share, bound))
    return Finding("unproven", sentence, doubt)


def _by_noise(output: OutputParity) -> Finding:
    if _below(output, COLLAPSED_SQNR_DB):
        return Finding("collapsed", phrases.likeness(output))
    if _below(output, LOST_SQNR_DB):
        return Finding("lost", phrases.likeness(output, f"below {LOST_SQNR_DB:g} dB counts as a loss"))
    low = output.sqnr_low_db
    if low is not None and low < LOST_SQNR_DB and (output.sqnr_db or 0.0) < ROUNDING_DB:
        doubt = phrases.undecided_noise(output, LOST_SQNR_DB, _rows_for_noise(output, low))
        return Finding("unproven", phrases.likeness(output), doubt)
    return Finding("kept", phrases.likeness(output))


def _interval(output: OutputParity, share: float) -> tuple[float, float]:
    low = share if output.agreement_low is None else output.agreement_low
    return low, share if output.agreement_high is None else output.agreement_high


def _rows_to_tell(output: OutputParity, share: float, least: float) -> int | None:
    """About how many rows would, if as many of their answers stay the same; None where it is a draw."""
    answers = count_to_tell(share, least)
    if not isfinite(answers) or not output.independent_answers:
        return None
    return max(output.rows + 1, ceil(answers * output.rows / output.independent_answers))


def _rows_for_noise(output: OutputParity, low: float) -> int | None:
    """The same for the power of the error, whose interval shrinks with the root of the rows; None for a single row."""
    if output.rows < 2 or output.sqnr_db is None:
        return None
    ratio, most, reach = (10 ** (-level / 10) for level in (output.sqnr_db, LOST_SQNR_DB, low))
    return max(output.rows + 1, ceil(output.rows * ((reach - ratio) / (most - ratio)) ** 2)) if most > ratio else None


def _below(output: OutputParity, decibels: float) -> bool:
    return output.sqnr_db is not None and output.sqnr_db < decibels
