"""How the range of a tensor is chosen: an observer says what is kept of the tensor, and which range that suggests.

To add one: a class here, its row in `OBSERVERS`, and its name in `app.spec.quantize.OBSERVERS`.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from app.spec.quantize import Observer, QuantizeStatic
from worker.engine.plan.plan import Range
from worker.engine.quantization.clipping import least_error
from worker.engine.quantization.entropy import CODES, most_telling
from worker.engine.quantization.statistics.extremes import Extremes
from worker.engine.quantization.statistics.histogram import Histogram, StreamedHistogram


class RangeObserver(Protocol):
    """Chooses the ranges of tensors, each from a statistic of its own."""

    def statistic(self) -> Any:
        """A `Statistic` for one tensor, to be kept while rows stream by."""

    def range(self, seen: Any) -> Range:
        """The tensor's range, from its complete statistic."""


class MinMax:
    """The range is from the smallest value seen to the largest."""

    def __init__(self, step: QuantizeStatic) -> None:
        self.step = step

    def statistic(self) -> Extremes:
        return Extremes()

    def range(self, seen: Extremes) -> Range:
        return seen.range()


class MovingAverage(MinMax):
    """The extremes of a batch, by exponential moving average."""

    def range(self, seen: Extremes) -> Range:
        return seen.moving_average()


class HistogramObserver:
    """Searches a histogram of the tensor for the range; one that was always 0 has nothing to search."""

    def __init__(self, step: QuantizeStatic) -> None:
        self.step = step

    def statistic(self) -> StreamedHistogram:
        return StreamedHistogram()

    def range(self, seen: StreamedHistogram) -> Range:
        extremes, histogram = seen.extremes.range(), seen.finished()
        return extremes if histogram is None else self.search(histogram, extremes)

    def search(self, histogram: Histogram, extremes: Range) -> Range:
        """A range inside of the extremes."""
        raise NotImplementedError


class Percentile(HistogramObserver):
    """The range that holds the step's share of the values."""

    def search(self, histogram: Histogram, extremes: Range) -> Range:
        return percentile(histogram, self.step.percentile, extremes)


class Entropy(HistogramObserver):
    """The range whose 8-bit form differs least, by relative entropy, from the distribution seen."""

    def search(self, histogram: Histogram, extremes: Range) -> Range:
        return most_telling(histogram, extremes)


class MeanSquaredError(HistogramObserver):
    """The range whose 8-bit form has the least squared error."""

    def search(self, histogram: Histogram, extremes: Range) -> Range:
        return least_squares(histogram, extremes, CODES)


def percentile(histogram: Histogram, share: float, extremes: Range) -> Range:
    """The range that holds `share` percent of the values, with equal parts of the rest on either side."""
    cumulated = np.concatenate([[0], np.cumsum(histogram.counts)])
    cut = (100 - share) / 200 * cumulated[-1]
    low, high = np.interp([cut, cumulated[-1] - cut], cumulated, histogram.edges)
    return Range(max(extremes.low, min(float(low), 0.0)), min(extremes.high, max(float(high), 0.0)))


def least_squares(histogram: Histogram, extremes: Range, codes: int) -> Range:
    """The range whose form with so many steps has the least squared error."""
    return least_error(histogram.counts, histogram.centres, extremes, codes)


OBSERVERS: dict[Observer, Callable[[QuantizeStatic], RangeObserver]] = {
    "minmax": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "entropy": Entropy,
    "mse": MeanSquaredError,
}
