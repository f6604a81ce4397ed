"""A statistic point: a value of the float graph, and the statistic that is kept of it while batches stream by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Reduction:
    """An operator that makes a scalar or a small tensor of a value inside the graph, so that only that comes out."""

    operator: str
    """`ReduceMin`, `ReduceMax` or `ReduceMean`, by its name in ONNX."""
    axes: tuple[int, ...] | None = None
    """The axes that vanish; None: all."""


@dataclass(frozen=True)
class Observation:
    """What one batch shows of a value."""

    value: str
    rows: int
    """New ones: a fixed batch may be filled up with rows that were seen already."""
    reduced: Sequence[np.ndarray]
    """The results of the statistic's reductions, in their order, float32."""
    array: np.ndarray | None
    """All elements, where the statistic reads them."""


class Statistic(Protocol):
    """What is known of one value so far. Its memory does not depend on the number of rows."""

    @property
    def reductions(self) -> tuple[Reduction, ...]:
        """What it wants computed inside the graph."""

    @property
    def reads_array(self) -> bool:
        """Whether it wants all elements, too."""

    def clear(self) -> None:
        """Forget every batch: the rows are about to be run once more, in other batches."""

    def update(self, seen: Observation) -> None:
        """Take in one batch. Raises `CalibrationFailed` for values that it cannot describe."""


@dataclass(frozen=True)
class StatisticPoint:
    """What one pass declared."""

    value: str
    statistic: Statistic


def smallest_and_largest(kept_axis: int | None = None, rank: int = 0) -> tuple[Reduction, Reduction]:
    """The reductions to extremes: of all elements, or for each place along one axis of a value with `rank` axes."""
    axes = None if kept_axis is None else tuple(axis for axis in range(rank) if axis != kept_axis % rank)
    return Reduction("ReduceMin", axes), Reduction("ReduceMax", axes)
