"""A measured figure, what it must be, and how it is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal


@dataclass(frozen=True)
class Bound:
    """A limit that a figure has to keep."""

    kind: Literal["at least", "at most"]
    limit: float

    def met_by(self, value: float) -> bool:
        """Whether the value is on the right side; a NaN is on neither."""
        return value >= self.limit if self.kind == "at least" else value <= self.limit


def at_least(limit: float) -> Bound:
    """A figure that must not be smaller."""
    return Bound("at least", limit)


def at_most(limit: float) -> Bound:
    """A figure that must not be larger."""
    return Bound("at most", limit)


@dataclass(frozen=True)
class Figure:
    """One row of a story's table. `low` and `high` are the noise: an interval, or the range of repetitions."""

    name: str
    value: float
    unit: str = ""
    bound: Bound | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def mean_of(cls, name: str, values: Sequence[float], unit: str = "", bound: Bound | None = None) -> "Figure":
        """The mean of repetitions, with the smallest and the largest of them as its range."""
        return cls(name, fmean(values), unit, bound, min(values), max(values))

    @property
    def met(self) -> bool:
        """Whether the bound, if there is one, is kept."""
        return self.bound is None or self.bound.met_by(self.value)

    @property
    def shown(self) -> str:
        """The value with its unit."""
        return " ".join(filter(None, (written(self.value), self.unit)))

    @property
    def spread(self) -> str:
        """The noise, empty where there is none."""
        return "" if self.low is None or self.high is None else f"{written(self.low)} to {written(self.high)}"

    @property
    def requirement(self) -> str:
        """The bound and whether it is kept, empty where there is none."""
        if self.bound is None:
            return ""
        return f"{self.bound.kind} {written(self.bound.limit)}: {'met' if self.met else 'MISSED'}"


def written(value: float) -> str:
    """A whole number in full, any other with three digits and without an exponent."""
    if isinstance(value, int) or abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
