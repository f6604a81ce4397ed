"""Statistics of how far values reach, reduced inside the graph: scalars and vectors come out, no activations."""

import numpy as np

from worker.engine.plan.plan import Range
from worker.engine.quantization.errors import CalibrationFailed
from worker.engine.quantization.statistics.point import Observation, Reduction, smallest_and_largest

MEMORY = 0.9
"""What a moving average keeps of itself with each batch: the last 22 batches are nine tenths of it."""


class Extremes:
    """The smallest and the largest value, and what they are in a batch on average."""

    reductions = smallest_and_largest()
    reads_array = False

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self._sums = (0.0, 0.0)
        """Of the lowest and highest values of batches, each weighted by `MEMORY` to the power of its age."""
        self._weight = 0.0

    def update(self, seen: Observation) -> None:
        """Take in one batch. Raises `CalibrationFailed` where it holds values that are not finite."""
        low, high = (float(extreme) for extreme in seen.reduced[:2])
        if not (np.isfinite(low) and np.isfinite(high)):
            raise CalibrationFailed(
                f"Tensor {seen.value} takes values that are not finite on the calibration data.",
                remedy="Check the data and its preprocessing; if the model means them, put the nodes that read and "
                "write this tensor on the skip list.",
            )
        self.add(low, high)

    def add(self, low: float, high: float) -> None:
        """Take in the extremes of one batch."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._sums = (MEMORY * self._sums[0] + low, MEMORY * self._sums[1] + high)
        self._weight = MEMORY * self._weight + 1

    def range(self) -> Range:
        """All that was seen, and zero: padding and ReLU need its exact code."""
        return Range(min(self.low, 0.0), max(self.high, 0.0))

    def moving_average(self) -> Range:
        """The extremes of a batch by exponential moving average, so that a rare outlier counts for little.

        B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference", 2018. The weights are divided by their sum, so that the first batch counts like any other.
        """
        low, high = (total / self._weight for total in self._sums)
        return Range(min(low, 0.0), max(high, 0.0))


class ChannelExtremes:
    """The smallest and the largest value of each channel, float32 `[channels]`."""

    reads_array = False

    def __init__(self, axis: int, rank: int) -> None:
        """`axis` of the value's `rank` axes counts the channels."""
        self.reductions: tuple[Reduction, ...] = smallest_and_largest(axis, rank)
        self.clear()

    def clear(self) -> None:
        self.low: np.ndarray = np.full(1, np.inf, np.float32)
        self.high: np.ndarray = np.full(1, -np.inf, np.float32)

    def update(self, seen: Observation) -> None:
        low, high = seen.reduced
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    @property
    def magnitude(self) -> np.ndarray:
        """The largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


class NoNaN:
    """Sees to it that an output of the network is a number wherever the rows lead it.

    A NaN inside the network reaches an output; the runtime's ReduceMin and ReduceMax may pass over it. Infinity is a
    legitimate output: a mask, the logarithm of 0.
    """

    reductions: tuple[Reduction, ...] = ()
    reads_array = True

    def clear(self) -> None:
        """There is nothing to forget."""

    def update(self, seen: Observation) -> None:
        """Raises `CalibrationFailed` where the batch holds a NaN."""
        array = seen.array
        if array is not None and np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
            raise CalibrationFailed(
                f"Output {seen.value} takes values that are not finite (NaN) on the calibration data."
            )
