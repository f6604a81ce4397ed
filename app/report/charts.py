"""Geometry of the charts that steps draw: a few series over numbers (lines) or over names of layers (bars).

Horizontal positions are percent of the width, vertical ones pixels from the top.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from app.report.axes import MOST_TICKS, Span, Tick, anchor, place_ticks, round_step
from app.report.text import one_line
from app.spec.report import Chart

HEIGHT = 170
HEADROOM = 1.05
MOST_LEVELS = 5
WIDEST_GROUP = 12.0
"""Percent of the width: bars for two layers do not become a wall."""
LOG_DECADES = 6
"""Values further below the largest are drawn at the bottom of a logarithmic axis."""


@dataclass(frozen=True)
class Level:
    """A grid line with its label."""

    y: float
    label: str


@dataclass(frozen=True)
class ChartBar:
    """One value of one series."""

    span: Span
    y: float
    height: float
    series: int
    says: str


@dataclass(frozen=True)
class Line:
    """One series; each run is without gaps, as the points of an SVG polyline in a box of 100 by `HEIGHT`."""

    series: int
    runs: tuple[str, ...]
    dots: tuple[tuple[float, float, str], ...]
    """Position of each value, and what it says."""


@dataclass(frozen=True)
class Picture:
    """A chart, ready to draw."""

    levels: tuple[Level, ...]
    ticks: tuple[Tick, ...]
    bars: tuple[ChartBar, ...] = ()
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels, linearly or by their logarithm."""

    low: float
    high: float
    log: bool

    def y(self, value: float) -> float:
        """Pixels from the top; what lies outside is drawn at the edge."""
        low, high = self._at(self.low), self._at(self.high)
        share = (self._at(max(value, self.low)) - low) / (high - low)
        return round(HEIGHT * (1 - min(1.0, max(0.0, share))), 1)

    def _at(self, value: float) -> float:
        return math.log10(value) if self.log else value


def picture(chart: Chart) -> Picture:
    """Where everything goes. Values that are not there leave a gap."""
    values = [value for series in chart.series for value in series.values if value is not None]
    scale = _scale(values, log=chart.log_y, from_zero=chart.kind == "bars")
    levels = tuple(Level(scale.y(value), _number(value)) for value in _levels(scale))
    if chart.kind == "bars":
        return Picture(levels, _name_ticks(chart), bars=tuple(_bars(chart, scale)))
    places, ticks = _places(chart)
    return Picture(levels, ticks, lines=tuple(_line(chart, index, places, scale) for index in range(len(chart.series))))


def _scale(values: list[float], *, log: bool, from_zero: bool) -> Scale:
    if log:
        positive = [value for value in values if value > 0] or [1.0]
        high = max(positive)
        low = max(min(positive), high / 10**LOG_DECADES)
        return Scale(10.0 ** math.floor(math.log10(low)), high * HEADROOM if high > low else high * 10, log=True)
    low, high = min(values, default=0.0), max(values, default=1.0)
    if from_zero or 0 <= low < 0.5 * high:
        low = min(0.0, low)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    room = (HEADROOM - 1) * (high - low)
    return Scale(low - room if low < 0 or (not from_zero and low > 0) else low, high + room, log=False)


def _levels(scale: Scale) -> list[float]:
    """Round values inside the scale, few enough to be read."""
    if scale.log:
        first, last = math.ceil(math.log10(scale.low) - 1e-9), math.floor(math.log10(scale.high))
        decades = max(1, -(-(last - first + 1) // MOST_LEVELS))
        return [10.0**power for power in range(first, last + 1, decades)]
    step = round_step((scale.high - scale.low) / MOST_LEVELS)
    return [step * index for index in range(math.ceil(scale.low / step), math.floor(scale.high / step) + 1)]


def _places(chart: Chart) -> tuple[list[float], tuple[Tick, ...]]:
    """Horizontal positions of the values, and the axis: by number, or evenly where they have names."""
    numbers = [place for place in chart.x if not isinstance(place, str)]
    if len(numbers) != len(chart.x):
        slot = 100 / max(1, len(chart.x))
        return [round((index + 0.5) * slot, 3) for index in range(len(chart.x))], _name_ticks(chart)
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    width = high - low or 1.0
    step = round_step(width / MOST_TICKS)
    whole = all(float(number).is_integer() for number in numbers)
    step = max(1.0, math.ceil(step)) if whole else step
    marks = [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    ticks = tuple(
        Tick(round(100 * (mark - low) / width, 3), _number(mark), anchor((mark - low) / width)) for mark in marks
    )
    return [round(100 * (number - low) / width, 3) for number in numbers], ticks


def _bars(chart: Chart, scale: Scale) -> Iterable[ChartBar]:
    slot = min(WIDEST_GROUP, 100 / max(1, len(chart.x)))
    gap = 0.2 * slot
    width = (slot - gap) / len(chart.series)
    base = scale.y(max(0.0, scale.low))
    for place, name in enumerate(chart.x):
        for number, series in enumerate(chart.series):
            value = series.values[place]
            if value is None:
                continue
            top, bottom = sorted((scale.y(value), base))
            yield ChartBar(
                Span(round(place * slot + gap / 2 + number * width, 3), round(width, 3)),
                top,
                round(max(1.0, bottom - top), 1),
                number,
                _says(chart, name, number, value),
            )


def _line(chart: Chart, index: int, places: list[float], scale: Scale) -> Line:
    runs: list[list[str]] = [[]]
    dots = []
    for place, name, value in zip(places, chart.x, chart.series[index].values, strict=True):
        if value is None:
            runs.append([])
            continue
        y = scale.y(value)
        runs[-1].append(f"{place},{y}")
        dots.append((place, y, _says(chart, name, index, value)))
    return Line(index, tuple(" ".join(run) for run in runs if len(run) > 1), tuple(dots))


def _says(chart: Chart, name: float | str, series: int, value: float) -> str:
    place = one_line(name) if isinstance(name, str) else f"{chart.x_label} {_number(name)}"
    what = f" {chart.series[series].name}" if len(chart.series) > 1 else ""
    return f"{place}:{what} {_number(value)}"


def _name_ticks(chart: Chart) -> tuple[Tick, ...]:
    """Numbers of the bars, from 1: names of layers are too long for an axis."""
    count = len(chart.x)
    slot = min(WIDEST_GROUP, 100 / max(1, count)) if chart.kind == "bars" else 100 / max(1, count)
    return place_ticks(count, slot)


def _number(value: float) -> str:
    """Up to four significant digits, large ones grouped."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}" if abs(value) < 1e5 else f"{value / 1e6:.3g} M" if abs(value) >= 1e6 else f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
