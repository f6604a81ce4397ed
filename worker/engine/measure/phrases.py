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


def likeness(output: OutputParity, loss: str = "", *, discrete: bool = False) -> str:
    """How close an output is to the original's; `loss` says below what that counts as one, where it does."""
    name, rows = f"Output {output.output!r}", counted(output.rows, "row")
    if output.sqnr_db is None and output.top1_agreement in {None, 1.0}:
        return f"{name} equals the original's on {rows}."
    share = "" if output.top1_agreement is None else f"{output.top1_agreement:.1%} of {_answers(output)}"
    if discrete:
        sentence = f"{name} equals the original's on {share}"
    else:
        same = f", the same answer on {share}" if share else ""
        sentence = f"{name} follows the original at {output.sqnr_db or 0:.1f} dB signal to noise{same}"
    return f"{sentence}: {loss}." if loss else f"{sentence}."


def _answers(output: OutputParity) -> str:
    if output.answers is None or output.answers == output.rows:
        return counted(output.rows, "row")
    return f"{output.answers:,} answers on {counted(output.rows, 'row')}"


def undecided_metric(change: MetricChange) -> str:
    """Why the rows prove nothing of a metric, and how many would."""
    kind = change.kind
    return (
        f"Not proven: on {counted(change.rows, 'row')} {kind.label} may have lost up to "
        f"{kind.amount(change.drop_high)}{_needed(change.rows_needed)}."
    )


def undecided_answers(output: OutputParity, span: tuple[float, float], least: float, rows: int | None) -> str:
    """Why the rows prove nothing of an output's answers, and how many would."""
    low, high = span
    return (
        f"Not proven: {counted(output.rows, 'row')} allow that output {output.output!r} keeps {low:.0%} to {high:.0%} "
        f"of its answers, and below {least:.0%} counts as a loss{_needed(rows)}."
    )


def undecided_noise(output: OutputParity, least: float, rows: int | None) -> str:
    """Why the rows prove nothing of an output's values, and how many would."""
    return (
        f"Not proven: {counted(output.rows, 'row')} allow that the error of output {output.output!r} is larger, and "
        f"below {least:g} dB counts as a loss{_needed(rows)}."
    )


def _needed(rows: int | None) -> str:
    return "; more rows are needed" if rows is None else f"; about {rows:,} rows would tell"


NOT_COMPARED = "Not proven: the outputs were not compared, since nothing here runs the artifact."
"""Of what was converted alone."""


def unseen_rows(source: str, rows: int) -> str:
    """Why rows that no test data were prove nothing."""
    made = {
        "calibration": "the outputs were compared on calibration rows, to which the ranges were fitted",
        "synthetic": "the outputs were compared on made-up rows, which say little about real ones",
    }[source]
    return f"Not proven: {made}. Name test data in `data.test`, {rows} rows or more, with labels if there are any."


def uncompared(name: str) -> str:
    """An output that is not known to be equal."""
    return f"Unusable: output {name!r} could not be compared: its shape is not the original's, or no value is finite."


def data_dependent(name: str) -> str:
    """An output whose size follows from the values."""
    return (
        f"Not proven: output {name!r} has as many entries as the model finds, and found other numbers of them than the "
        "original: they were not compared. Export the model without its last selection (non-maximum suppression), or "
        "judge it by your own metric."
    )


def at_chance(change: MetricChange) -> str:
    """The labels do not judge a model that has learned nothing of them."""
    kind, chance = change.kind, change.chance or 0.0
    level = "no more than" if change.before <= chance else f"on {counted(change.rows, 'row')} not shown to be more than"
    return (
        f"The original itself reaches {kind.level(change.before)} {kind.label}, {level} always giving the most "
        f"frequent label ({kind.level(chance)}): these labels say little. Check that they number the model's classes, "
        "that the rows are preprocessed as in training, and that the model is trained."
    )


def not_finite(count: int) -> str:
    """The model returns rubbish."""
    values = "1 value is" if count == 1 else f"{count} values are"
    return f"Unusable: {values} NaN or infinite in one of the two models alone."


def collapsed_metric(change: MetricChange) -> str:
    """Quality is gone, by the labels."""
    return f"Unusable: {change.kind.label} collapsed; the loss is at least {change.kind.amount(change.drop_low)}."


def collapsed_output(output: OutputParity) -> str:
    """Quality is gone, by the outputs."""
    same = output.top1_agreement
    agree = "" if same is None else f" and the same answer on only {same:.1%} of {_answers(output)}"
    return f"Unusable: output {output.output!r} has {output.sqnr_db or 0:.1f} dB signal to noise{agree}."


def _medians(change: LatencyChange) -> str:
    return f"p50 {duration(change.before.p50_ms)} -> {duration(change.after.p50_ms)}"
