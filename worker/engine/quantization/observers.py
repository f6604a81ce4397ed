"""How the range of a tensor is chosen from what was seen of it, in memory that does not grow with the data."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worker.engine.plan.plan import Range
from worker.engine.quantization.clipping import least_error

BINS = 16_384
"""Of one histogram, 128 KiB. A percentile is exact to 1/8192 of the largest magnitude, so an outlier a thousand
times as large as the rest still leaves eight bins for the rest."""
ENTROPY_BINS = 4096
"""Of the magnitude histogram that the entropy search reads: 16 for each of 255 codes, as in TensorRT's calibrator."""
CODES = 255
OUTLIERS = 1e-5
"""Share of the values, the largest, that do not keep the entropy search from clipping; one value at least."""
CLIPPING_PAYS = 0.9
"""Squared error after clipping, at most, relative to that of the whole range; the outliers add up to as much again."""
CHUNK = 1 << 18
"""Elements counted at once: a chunk and its indices stay in the second-level cache."""


MEMORY = 0.9
"""What a moving average keeps of itself with each batch: the last 22 batches are nine tenths of it."""


@dataclass
class Extremes:
    """The smallest and the largest value, and what they are in a batch on average."""

    low: float = np.inf
    high: float = -np.inf
    sums: tuple[float, float] = (0.0, 0.0)
    """Of the lowest and highest values of batches, each weighted by `MEMORY` to the power of its age."""
    weight: float = 0.0

    def update(self, low: float, high: float) -> None:
        """Take in the extremes of one batch; a NaN stays."""
        self.low, self.high = float(np.minimum(self.low, low)), float(np.maximum(self.high, high))
        self.sums = (MEMORY * self.sums[0] + low, MEMORY * self.sums[1] + high)
        self.weight = MEMORY * self.weight + 1

    def range(self) -> Range:
        """All that was seen, and zero: padding and ReLU need its exact code."""
        return Range(min(self.low, 0.0), max(self.high, 0.0))

    def moving_average(self) -> Range:
        """The extremes of a batch by exponential moving average, so that a rare outlier counts for little.

        B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference", 2018. The weights are divided by their sum, so that the first batch counts like any other.
        """
        low, high = (total / self.weight for total in self.sums)
        return Range(min(low, 0.0), max(high, 0.0))


class Histogram:
    """Counts of values in equal bins over -magnitude ... magnitude."""

    def __init__(self, magnitude: float) -> None:
        """`magnitude` is the largest absolute value that will come; larger ones count as this."""
        self.magnitude = magnitude
        self.counts = np.zeros(BINS, np.int64)

    def update(self, values: np.ndarray) -> None:
        """Count the values of an array of any shape, float32."""
        flat = values.reshape(-1)
        scale, middle = np.float32(BINS / 2 / self.magnitude), np.float32(BINS / 2)
        for start in range(0, flat.size, CHUNK):
            places = (flat[start : start + CHUNK] * scale + middle).astype(np.int32)
            self.counts += np.bincount(np.clip(places, 0, BINS - 1, out=places), minlength=BINS)

    def percentile(self, share: float, extremes: Range) -> Range:
        """The range that holds `share` percent of the values, with equal parts of the rest on either side."""
        cumulated = np.concatenate([[0], np.cumsum(self.counts)])
        edges = np.linspace(-self.magnitude, self.magnitude, BINS + 1)
        cut = (100 - share) / 200 * cumulated[-1]
        low, high = np.interp([cut, cumulated[-1] - cut], cumulated, edges)
        return Range(max(extremes.low, min(float(low), 0.0)), min(extremes.high, max(float(high), 0.0)))

    def mse(self, extremes: Range) -> Range:
        """The range whose 8-bit form has the least squared error."""
        width = 2 * self.magnitude / BINS
        centres = (np.arange(BINS) + 0.5) * width - self.magnitude
        return least_error(self.counts, centres, extremes, CODES)

    def magnitudes(self) -> np.ndarray:
        """Counts of absolute values, `ENTROPY_BINS` bins over 0 ... magnitude."""
        folded = self.counts[BINS // 2 :] + self.counts[: BINS // 2][::-1]
        return folded.reshape(ENTROPY_BINS, -1).sum(axis=1)

    def entropy(self, extremes: Range) -> Range:
        """The range whose 8-bit form differs least, by relative entropy, from the distribution seen.

        The search shrinks the range from the larger end, and from the other once it is reached. Codes are shared out
        by length: a ReLU's output has all of them on its one side, a symmetric tensor half of them on either.
        A range that does not lower the reconstruction error, outliers apart, of the whole one is left out: by itself
        entropy alone clips a LeakyReLU, half of whose values lie in 1 % of its range, at 28 times the error.
        """
        magnitudes = self.magnitudes()
        width = self.magnitude / ENTROPY_BINS
        levels = max(2, round(CODES * self.magnitude / (extremes.high - extremes.low)))
        typical = without_outliers(magnitudes)
        most = CLIPPING_PAYS * squared_error(typical, ENTROPY_BINS, extremes, width)
        clip = width * entropy_clip(
            magnitudes, levels, allowed=lambda keep: squared_error(typical, keep, extremes, width) <= most
        )
        return Range(max(extremes.low, -clip), min(extremes.high, clip))


def without_outliers(magnitudes: np.ndarray) -> np.ndarray:
    """The counts with the `OUTLIERS` moved inwards, to the bin of the largest value that is none."""
    beyond = np.cumsum(magnitudes[::-1])[::-1]
    last = int(np.flatnonzero(beyond > min(max(1, OUTLIERS * beyond[0]), beyond[0] - 1))[-1])
    typical = magnitudes.copy()
    typical[last] = beyond[last]
    typical[last + 1 :] = 0
    return typical


def squared_error(magnitudes: np.ndarray, keep: int, extremes: Range, width: float) -> float:
    """Sum of squared errors where bins from `keep` on, each `width` wide, are clipped.

    Rounding costs a value a twelfth of the square of a code's width; clipping costs it the square of what is cut.
    """
    clip = keep * width
    code = (min(extremes.high, clip) - max(extremes.low, -clip)) / CODES
    cut = (np.arange(keep, len(magnitudes)) + 0.5) * width - clip
    return float(magnitudes[:keep].sum() * code**2 / 12 + (magnitudes[keep:] * np.square(cut)).sum())


def entropy_clip(
    magnitudes: np.ndarray, levels: int, step: int = 16, allowed: Callable[[int], bool] | None = None
) -> int:
    """Number of leading bins to keep so that `levels` codes say the most about the distribution.

    S. Migacz, 8-bit Inference with TensorRT, GTC 2017: P is the histogram up to the threshold with everything
    beyond added to the last bin, Q its merge into `levels` codes spread out again over the filled bins; the
    threshold with the smallest Kullback-Leibler divergence of Q from P wins. The first bin counts as much as the
    second, as in NVIDIA's pytorch-quantization: half of a ReLU's output is zero, and zero has its own code anyway.
    Thresholds that are not `allowed` are left out; that of all bins is always tried.
    """
    counts = magnitudes.astype(np.float64)
    counts[0] = counts[1]
    whole = len(counts)
    if not counts.any():
        return whole
    thresholds = [keep for keep in range(min(levels + 1, whole), whole, step) if allowed is None or allowed(keep)]
    return min([*thresholds, whole], key=lambda keep: divergence(counts, keep, levels))


def divergence(counts: np.ndarray, keep: int, levels: int) -> float:
    """Relative entropy, in nats, of the quantized form of the first `keep` bins from the clipped distribution."""
    kept = counts[:keep]
    clipped = kept.copy()
    clipped[-1] += counts[keep:].sum()
    code = np.arange(keep) * levels // keep
    filled = kept > 0
    spread = np.bincount(code, kept, levels)[code] / np.maximum(np.bincount(code, filled, levels), 1)[code]
    quantized = np.where(filled, spread, 0.0)
    if not quantized.any():
        return float(np.inf)
    p, q = clipped / clipped.sum(), quantized / quantized.sum()
    p, q = p[p > 0], np.maximum(q[p > 0], 1e-10)  # the last bin may be filled by clipped values alone
    return float((p * np.log(p / q)).sum())
