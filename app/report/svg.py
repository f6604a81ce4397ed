"""Geometry of the pictures. Horizontal positions are percentages: pictures fit any width, texts keep their size."""

import math
from dataclasses import dataclass
from typing import Literal

from app.report.axes import MOST_TICKS, Span, Tick, anchor, place_ticks, round_step
from app.spec.figures import Distribution
from app.spec.report import LatencyChange, LayerError, Size

Severity = Literal["clean", "fair", "weak", "poor", "equal"]

BANDS = ((1, 99), (10, 90), (25, 75))
"""Percentiles between which a strip is drawn, darker inside."""
THINNEST = 0.25
"""Percent of the width below which a mark would vanish."""
AXIS_ROOM = 1.04
AXIS_UNITS = ((1e-3, "s"), (1, "ms"), (1e3, "µs"), (1e6, "ns"))
"""Factor from milliseconds; an axis has one unit, in which its end is at least 1."""

SEVERITIES: tuple[tuple[float, Severity], ...] = ((30, "clean"), (20, "fair"), (10, "weak"), (-math.inf, "poor"))
"""Lower bounds in decibels."""
LAYER_HEIGHT = 150
"""Pixels that stand for `LAYER_DB`."""
LAYER_DB = 60.0
SHORTEST = 3.0
WIDEST_BAR = 4.0
"""Percent of the width: a few layers do not become a wall."""


@dataclass(frozen=True)
class Strip:
    """The distribution of one model's latency."""

    bands: tuple[Span, ...]
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class LatencyPicture:
    """Two strips over one axis that starts at zero."""

    before: Strip
    after: Strip
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Bar:
    """One layer: higher is better."""

    x: float
    width: float
    y: float
    height: float
    severity: Severity
    layer: LayerError
    position: int


@dataclass(frozen=True)
class LayersPicture:
    """All layers in the graph's order."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    levels: tuple[tuple[float, str], ...]
    """Grid lines: pixels from the top, label."""


def size_bars(size: Size) -> tuple[Span, Span]:
    """Before and after; the larger one takes the whole width."""
    largest = max(size.before_bytes, size.after_bytes)
    return (
        Span(0, max(THINNEST, 100 * size.before_bytes / largest)),
        Span(0, max(THINNEST, 100 * size.after_bytes / largest)),
    )


def latency_picture(change: LatencyChange) -> LatencyPicture:
    """Both distributions up to the larger p99; rarer runs lie beyond the picture."""
    end = AXIS_ROOM * max(change.before.p99_ms, change.after.p99_ms)
    return LatencyPicture(_strip(change.before, end), _strip(change.after, end), _time_ticks(end))


def layers_picture(layers: tuple[LayerError, ...]) -> LayersPicture:
    """One bar per layer, from none to hundreds."""
    slot = min(WIDEST_BAR, 100 / max(1, len(layers)))
    gap = 0.2 * slot
    bars = []
    for index, layer in enumerate(layers):
        height = LAYER_HEIGHT * _share(layer.sqnr_db)
        bars.append(
            Bar(
                x=round(index * slot + gap / 2, 3),
                width=round(slot - gap, 3),
                y=round(LAYER_HEIGHT - height, 1),
                height=round(height, 1),
                severity=severity(layer),
                layer=layer,
                position=index + 1,
            )
        )
    levels = tuple((LAYER_HEIGHT * (1 - db / LAYER_DB), f"{db:g} dB") for db in (60, 40, 20))
    return LayersPicture(tuple(bars), place_ticks(len(layers), slot), levels)


def severity(layer: LayerError) -> Severity:
    """How bad a layer's error is."""
    if layer.sqnr_db is None:
        return "equal"
    return next(name for bound, name in SEVERITIES if layer.sqnr_db >= bound)


def weakest(layers: tuple[LayerError, ...], count: int) -> list[tuple[int, LayerError]]:
    """The layers with the most error, worst first, each with its position from 1."""
    noisy = [(index, layer) for index, layer in enumerate(layers, 1) if layer.sqnr_db is not None]
    return sorted(noisy, key=lambda entry: entry[1].sqnr_db or 0.0)[:count]


def _share(decibels: float | None) -> float:
    if decibels is None:
        return 1.0
    return max(SHORTEST / LAYER_HEIGHT, min(1.0, decibels / LAYER_DB))


def _strip(distribution: Distribution, end: float) -> Strip:
    quantiles = distribution.quantiles_ms
    bands = tuple(_span(quantiles[low], quantiles[high], end) for low, high in BANDS)
    return Strip(
        bands,
        _percent(distribution.p50_ms, end),
        _percent(distribution.p90_ms, end),
        _percent(distribution.p99_ms, end),
    )


def _span(low: float, high: float, end: float) -> Span:
    return Span(_percent(low, end), max(THINNEST, _percent(high, end) - _percent(low, end)))


def _percent(value: float, end: float) -> float:
    return round(100 * value / end, 3) if end else 0.0


def _time_ticks(end: float) -> tuple[Tick, ...]:
    """Round times from zero, few enough that their labels do not touch on a telephone."""
    if end <= 0:
        return (Tick(0, "0", "start"),)
    step = round_step(end / MOST_TICKS)
    scale, unit = next((scale, unit) for scale, unit in AXIS_UNITS if end * scale >= 1 or unit == "ns")
    values = [step * index for index in range(int(end / step) + 1)]
    return tuple(
        Tick(_percent(value, end), f"{value * scale:.10g} {unit}" if value else "0", anchor(value / end))
        for value in values
    )
