"""Figures as plain sentences."""

from app.spec.figures import MetricChange
from app.spec.report import LatencyChange, OutputParity, Size
from app.spec.units import counted, duration, file_size, speed, times


def size(change: Size) -> str:
    """How much smaller or larger."""
    ratio = change.ratio
    bytes_ = f"({file_size(change.before_bytes)} -> {file_size(change.after_bytes)})"
    if change.called_equal:
        return f"Same size {bytes_}."
    if ratio < 1:
        return f"{times(1 / ratio)} smaller {bytes_}."
    if change.outcome == "noise":
        return (
            f"Larger by {file_size(change.after_bytes - change.before_bytes)} {bytes_}: no more than metadata explains."
        )
    return f"{times(ratio)} larger {bytes_}."


def metric(change: MetricChange) -> str:
    """What happened to a metric, and whether the rows can resolve it."""
    kind = change.kind
    story = f"{kind.label} {kind.level(change.before)} -> {kind.level(change.after)}"
    if change.drop == 0:
        return f"{story}: no difference on {counted(change.rows, 'row')}."
    sentence = f"{story}: {kind.change(change.drop)} of {kind.amount(abs(change.drop))}"
    if change.outcome == "noise":
        return f"{sentence}, below what {counted(change.rows, 'row')} can resolve reliably."
    low, high = sorted((abs(change.drop_low), abs(change.drop_high)))
    return f"{sentence} ({kind.difference(low)} to {kind.difference(high)}) on {counted(change.rows, 'row')}."


def latency(change: LatencyChange, *, alone: bool) -> str:
    """Faster or slower for certain, or neither shown: an interval around 1 proves no equality."""
    where = "" if alone else f" at batch {change.batch}"
    span = f"({change.speedup_low:.2f} to {change.speedup_high:.2f})"
    ratio = speed(change.speedup)
    match change.outcome:
        case "gain":
            return f"Faster{where}: {ratio} {span}, {_medians(change)}."
        case "loss":
            return f"Slower{where}: {ratio} {span}, {_medians(change)}."
        case "noise":
            return f"No difference in speed shown{where}: {ratio} {span}."


def likeness(output: OutputParity, lost_below_db: float) -> str:
    """How close an output is where no labels say what is right."""
    if output.sqnr_db is None:
        return f"Output {output.output!r} equals the original's on {counted(output.rows, 'row')}."
    agree = "" if output.top1_agreement is None else f", the same answer on {output.top1_agreement:.1%} of the rows"
    sentence = f"Output {output.output!r} follows the original at {output.sqnr_db:.1f} dB signal to noise{agree}"
    if output.sqnr_db < lost_below_db:
        return f"{sentence}: below {lost_below_db:g} dB counts as a loss."
    return f"{sentence}."


def agreement(output: OutputParity, lost_below: float) -> str:
    """How often an output of integers or booleans is the original's."""
    share = output.top1_agreement or 0.0
    sentence = f"Output {output.output!r} equals the original's on {share:.1%} of {counted(output.rows, 'row')}"
    return f"{sentence}: below {lost_below:.0%} counts as a loss." if share < lost_below else f"{sentence}."


def not_finite(count: int) -> str:
    """The model returns rubbish."""
    values = "1 value is" if count == 1 else f"{count} values are"
    return f"Unusable: {values} NaN or infinite where the original's are finite."


def collapsed_metric(change: MetricChange) -> str:
    """Quality is gone, by the labels."""
    return f"Unusable: {change.kind.label} collapsed; the loss is at least {change.kind.amount(change.drop_low)}."


def collapsed_output(output: OutputParity) -> str:
    """Quality is gone, by the outputs."""
    agree = "" if output.top1_agreement is None else f" and the same answer on only {output.top1_agreement:.1%} of rows"
    return f"Unusable: output {output.output!r} has {output.sqnr_db or 0:.1f} dB signal to noise{agree}."


def _medians(change: LatencyChange) -> str:
    return f"p50 {duration(change.before.p50_ms)} -> {duration(change.after.p50_ms)}"
