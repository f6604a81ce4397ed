"""Counts of values whose range is not known beforehand: the histogram grows while batches stream by."""

from dataclasses import dataclass

import numpy as np

from worker.engine.quantization.statistics.extremes import Extremes
from worker.engine.quantization.statistics.point import Observation, smallest_and_largest

BINS = 16_384
"""Of a finished histogram. A percentile is exact to 1/8192 of the largest magnitude, so an outlier a thousand times as
large as the rest still leaves eight bins for the rest."""
STREAMED_BINS = 2 * BINS
"""While values come, 256 KiB: over at most twice the final range they are no wider than those of the finished one."""
CHUNK = 1 << 18
"""Elements counted at once: a chunk and its indices stay in the second-level cache."""
SMALLEST = 1e-30
"""Magnitude below which values count as 0: float32 has no number of bins for one of them."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values in `BINS` equal bins over -magnitude ... magnitude."""

    magnitude: float
    """The largest absolute value."""
    counts: np.ndarray
    """int64 `[BINS]`."""

    @property
    def edges(self) -> np.ndarray:
        """The ends of the bins, float64 `[BINS + 1]`."""
        return np.linspace(-self.magnitude, self.magnitude, len(self.counts) + 1)

    @property
    def centres(self) -> np.ndarray:
        """The middles of the bins, float64 `[BINS]`."""
        width = 2 * self.magnitude / len(self.counts)
        middles: np.ndarray = (np.arange(len(self.counts)) + 0.5) * width - self.magnitude
        return middles


class StreamedHistogram:
    """A histogram and the extremes of one tensor, in one pass.

    It begins with the range of the first batch. Where a later one reaches farther, the range is doubled until it fits,
    and each two bins become one: nothing is counted twice, none is lost, and no bin is cut.
    """

    reductions = smallest_and_largest()
    reads_array = True

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.extremes = Extremes()
        self._span = 0.0
        """The bins cover -span ... span; 0: only zeros have come, and they stand in the bin that begins at 0."""
        self._counts = np.zeros(STREAMED_BINS, np.int64)

    def update(self, seen: Observation) -> None:
        """Count one batch. Raises `CalibrationFailed` where it holds values that are not finite."""
        self.extremes.update(seen)
        if seen.array is not None:
            self._grow(max(-self.extremes.low, self.extremes.high))
            self._count(seen.array.reshape(-1))

    def finished(self) -> Histogram | None:
        """The counts over exactly the range of what came; None if that was nothing but zeros."""
        if not self._span:
            return None
        magnitude = max(-self.extremes.low, self.extremes.high)
        cumulated = np.concatenate([[0], np.cumsum(self._counts)])
        streamed = np.linspace(-self._span, self._span, STREAMED_BINS + 1)
        at_edges = np.rint(np.interp(np.linspace(-magnitude, magnitude, BINS + 1), streamed, cumulated))
        at_edges[0], at_edges[-1] = 0, cumulated[-1]  # clipped by a rounding error, float32 against float64
        return Histogram(magnitude, np.diff(at_edges).astype(np.int64))

    def _grow(self, magnitude: float) -> None:
        """Have the bins reach `magnitude`."""
        if not self._span and magnitude > SMALLEST:
            self._span = magnitude
        quarter = STREAMED_BINS // 4
        while 0 < self._span < magnitude:
            self._span *= 2
            halved = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.zeros_like(self._counts)
            self._counts[quarter:-quarter] = halved

    def _count(self, flat: np.ndarray) -> None:
        middle = STREAMED_BINS // 2
        if not self._span:
            self._counts[middle] += flat.size
            return
        scale = np.float32(middle / self._span)
        for start in range(0, flat.size, CHUNK):
            with np.errstate(invalid="ignore"):  # a NaN that the reductions passed over is refused at the outputs
                places = (flat[start : start + CHUNK] * scale + np.float32(middle)).astype(np.int32)
            np.clip(places, 0, STREAMED_BINS - 1, out=places)
            self._counts += np.bincount(places, minlength=STREAMED_BINS)
