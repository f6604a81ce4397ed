"""The range whose 8-bit form says the most about a distribution, searched on a histogram of magnitudes."""

from collections.abc import Callable

import numpy as np

from worker.engine.plan.plan import Range
from worker.engine.quantization.statistics.histogram import BINS, Histogram

ENTROPY_BINS = 4096
"""Of the magnitude histogram that the search reads: 16 for each of 255 codes, as in TensorRT's calibrator."""
CODES = 255
"""Steps of 8 bits."""
OUTLIERS = 1e-5
"""Share of the values, the largest, that do not keep the search from clipping; one value at least."""
CLIPPING_PAYS = 0.9
"""Squared error after clipping, at most, relative to that of the whole range; the outliers add up to as much again."""


def most_telling(histogram: Histogram, extremes: Range) -> Range:
    """The range whose 8-bit form differs least, by relative entropy, from the distribution seen.

    The search shrinks the range from the larger end, and from the other once it is reached. Codes are shared out
    by length: a ReLU's output has all of them on its one side, a symmetric tensor half of them on either.
    A range that does not lower the reconstruction error, outliers apart, of the whole one is left out: by itself
    entropy alone clips a LeakyReLU, half of whose values lie in 1 % of its range, at 28 times the error.
    """
    counts = magnitudes(histogram)
    width = histogram.magnitude / ENTROPY_BINS
    levels = max(2, round(CODES * histogram.magnitude / (extremes.high - extremes.low)))
    typical = without_outliers(counts)
    most = CLIPPING_PAYS * squared_error(typical, ENTROPY_BINS, extremes, width)
    clip = width * entropy_clip(
        counts, levels, allowed=lambda keep: squared_error(typical, keep, extremes, width) <= most
    )
    return Range(max(extremes.low, -clip), min(extremes.high, clip))


def magnitudes(histogram: Histogram) -> np.ndarray:
    """Counts of absolute values, `ENTROPY_BINS` bins over 0 ... magnitude."""
    half = BINS // 2
    folded = histogram.counts[half:] + histogram.counts[:half][::-1]
    return folded.reshape(ENTROPY_BINS, -1).sum(axis=1)


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
