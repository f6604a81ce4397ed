"""The figures of one target as rows of a table: what every rendering shows, in the same words."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from app.report.words import GIVEN, NO_STEPS
from app.spec.devices import Provenance
from app.spec.figures import MetricChange
from app.spec.outcome import Outcome
from app.spec.report import (
    Cell,
    LatencyChange,
    OperatorTime,
    OutputParity,
    Placement,
    Profile,
    Report,
    Size,
    Table,
    TargetReport,
)
from app.spec.units import counted, duration, file_size, speed

Tone = Literal["good", "bad", "same"]
TONES: dict[Outcome, Tone] = {"gain": "good", "loss": "bad", "noise": "same"}
SLOWEST = 10
"""Operators whose time is shown."""
RUNS_FOR_P99 = 200
"""Fewer runs have at most two beyond it."""


@dataclass(frozen=True)
class Row:
    """One figure before and after, as text."""

    figure: str
    before: str
    after: str
    change: str
    certainty: str
    """What limits the figure: an interval, a resolution."""
    tone: Tone
    provenance: Provenance


@dataclass(frozen=True)
class Highlight:
    """One of the few figures that are read first."""

    label: str
    value: str
    detail: str
    tone: Tone


def title(target: TargetReport) -> str:
    """What the target is called; of an artifact that was given, also whose it is."""
    origin = target.origin
    return target.target.title if origin is None else f"{target.target.title}, of {origin.job_name}"


def no_steps(report: Report) -> str:
    """What a report without steps says instead."""
    return GIVEN if any(target.origin for target in report.targets) else NO_STEPS


def rows(target: TargetReport) -> list[Row]:
    """Size, metrics and latency, in this order."""
    return [
        _size(target.size),
        *(_metric(change) for change in target.metrics),
        *(row for change in target.latency for row in _latency(change)),
    ]


def highlights(target: TargetReport) -> list[Highlight]:
    """Size, the first metric (or the first output where there is none), speed at the first batch."""
    size = _size(target.size)
    shown = [Highlight("Size", size.change, f"{size.before} → {size.after}", size.tone)]
    if target.metrics:
        row = _metric(target.metrics[0])
        shown.append(Highlight(row.figure, row.change, f"{row.before} → {row.after}", row.tone))
    elif target.parity:
        output = target.parity[0]
        shown.append(Highlight("Output", decibels(output.sqnr_db), "signal to noise against the original", "same"))
    if target.latency:
        change = target.latency[0]
        span = f"{_interval(change)} with 95 % confidence"
        shown.append(Highlight(f"Speed, batch {change.batch}", _speed(change), span, TONES[change.outcome]))
    return shown


def decibels(value: float | None) -> str:
    """Signal to noise; None means that the values are equal."""
    return "equal" if value is None else f"{value:.1f} dB".replace("-", "−")


def agreement(output: OutputParity) -> str:
    """Share of rows, tokens or pixels with the same answer, with its interval where it is known."""
    if output.top1_agreement is None:
        return "—"
    share = f"{100 * output.top1_agreement:.1f} %"
    if output.agreement_low is None or output.agreement_high is None:
        return share
    return f"{share} ({100 * output.agreement_low:.0f} to {100 * output.agreement_high:.0f})"


def slowest(profile: Profile) -> list[tuple[OperatorTime, float]]:
    """The operators that take most of the time, slowest first, each with its share of all of it."""
    total = sum(operator.microseconds for operator in profile.operators) or 1.0
    ranked = sorted(profile.operators, key=lambda operator: -operator.microseconds)[:SLOWEST]
    return [(operator, operator.microseconds / total) for operator in ranked if operator.microseconds]


def profiled(profile: Profile) -> str:
    """How the times were taken, and what all operators took by engine."""
    engines: dict[str, float] = {}
    for operator in profile.operators:
        engines[operator.engine] = engines.get(operator.engine, 0.0) + operator.microseconds
    shares = ", ".join(f"{engine} {amount:,.0f} µs" for engine, amount in engines.items())
    return (
        f"By the runtime's own events, the mean of {profile.runs} calls at batch {profile.batch} on "
        f"{counted(profile.threads, 'thread')}: {shares}."
    )


def operators(placement: Placement) -> str:
    """Operator counts, most frequent first."""
    return _counts(placement.operators)


def left(placement: Placement) -> str:
    """Counts of operators left to slower kernels."""
    return _counts(placement.fallback or {})


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def fact(name: str, value: Cell) -> str:
    """One thing that a step tells of itself: "samples 512"."""
    return f"{name.replace('_', ' ')} {cell(value)}"


def cell(value: Cell) -> str:
    """An entry of a step's table."""
    match value:
        case None:
            return "—"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
        case _:
            return value


def columns(table: Table) -> list[Literal["l", "r"]]:
    """How each column is aligned: numbers to the right."""
    return [
        "l" if any(isinstance(row[place], str | bool) for row in table.rows) else "r"
        for place in range(len(table.columns))
    ]


def load(change: LatencyChange) -> str:
    """How busy the machine was."""
    start, end = change.load_average
    return f"{start:.2f} at the start and {end:.2f} at the end"


def _size(size: Size) -> Row:
    if size.called_equal:
        change = "same size"
    elif size.ratio < 1:
        change = f"{_ratio(1 / size.ratio)} smaller"
    else:
        change = f"{_ratio(size.ratio)} larger"
    before, after = file_size(size.before_bytes), file_size(size.after_bytes)
    return Row("Size", before, after, change, "exact", TONES[size.outcome], size.provenance)


def _metric(change: MetricChange) -> Row:
    """The change is shown as after - before, whichever way is better."""
    metric, drop, low, high = change.kind, change.drop, change.drop_low, change.drop_high
    if metric.higher_is_better:
        drop, low, high = -drop, 0 - high, 0 - low  # of an interval that ends at zero, no minus zero
    resolution = "" if change.resolution is None else f", steps of {metric.amount(change.resolution)}"
    return Row(
        metric.label.capitalize(),
        metric.level(change.before),
        metric.level(change.after),
        _signed(metric.amount(drop)) if drop else "no difference",
        f"{_signed(metric.difference(low))} to {_signed(metric.difference(high))} · "
        f"{counted(change.rows, 'row')}{resolution}",
        TONES[change.outcome],
        change.provenance,
    )


def _latency(change: LatencyChange) -> Iterator[Row]:
    """p50 carries the claim and its interval; p90 and p99 stand beside it, p99 with a warning where it has few runs."""
    certainty = f"{_interval(change)} · {change.before.runs} runs each"
    before, after = change.before, change.after
    name = f"Latency p50, batch {change.batch}"
    yield Row(
        name,
        duration(before.p50_ms),
        duration(after.p50_ms),
        _speed(change),
        certainty,
        TONES[change.outcome],
        change.provenance,
    )
    for label, was, now, sure in (
        ("p90", before.p90_ms, after.p90_ms, ""),
        ("p99", before.p99_ms, after.p99_ms, _tail(before.runs)),
    ):
        yield Row(
            f"Latency {label}, batch {change.batch}", duration(was), duration(now), "", sure, "same", change.provenance
        )


def _tail(runs: int) -> str:
    """What a p99 rests on, where that is next to nothing."""
    return (
        "" if runs >= RUNS_FOR_P99 else f"uncertain: {counted(math.ceil((runs - 1) / 100), 'run')} of {runs} above it"
    )


def _speed(change: LatencyChange) -> str:
    match change.outcome:
        case "gain":
            return f"{_ratio(change.speedup)} faster"
        case "loss":
            return f"{_ratio(1 / change.speedup)} slower"
        case "noise":
            return f"no difference shown ({speed(change.speedup).replace('x', '×')})"


def _interval(change: LatencyChange) -> str:
    """Of the ratio as `_speed` words it: how many times slower, where it is slower."""
    low, high = change.speedup_low, change.speedup_high
    if change.outcome == "loss":
        low, high = 1 / high, 1 / low
    return f"{low:.2f} to {high:.2f}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}×" if ratio < 2 else f"{ratio:.1f}×" if ratio < 100 else f"{ratio:.0f}×"


def _signed(text: str) -> str:
    """A difference with its sign; none for zero."""
    if text.startswith("-"):
        return f"−{text[1:]}"
    return text if float(text.split(maxsplit=1)[0]) == 0 else f"+{text}"
