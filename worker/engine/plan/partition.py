"""The best partition of values on a line into intervals: k-means in one dimension, exactly.

H. Wang, M. Song, "Ckmeans.1d.dp", R Journal, 2011; A. Grønlund et al., "Fast Exact k-Means, k-Medians and Bregman
Divergence Clustering in 1D", arXiv:1701.07204.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sums:
    """Prefix sums over bins of the number of values, of the values and of their squares.

    They are 0 where half of the values lie on either side, not at the first bin: a sum over bins is a difference, which
    would lose the many small values behind one that is huge.
    """

    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, *bins: np.ndarray) -> "Sums":
        """Of the number, the sum and the sum of squares in each bin."""
        counted = np.cumsum(bins[0])
        middle = int(np.searchsorted(counted, counted[-1] / 2))
        return cls(*(_summed_from(part, middle) for part in bins))

    def at(self, edges: np.ndarray) -> "Sums":
        """Of the larger bins between these edges, the first and the last edge included."""
        return Sums(self.counts[edges], self.sums[edges], self.squares[edges])

    def means(self, starts: np.ndarray, ends: np.ndarray, empty: np.ndarray) -> np.ndarray:
        """Means of the values in the bins from `starts` to `ends`; `empty` where there are none."""
        count = self.counts[ends] - self.counts[starts]
        return np.where(count > 0, (self.sums[ends] - self.sums[starts]) / np.maximum(count, 1), empty)

    def error(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Sums of squared distances from those means."""
        count, total = (part[ends] - part[starts] for part in (self.counts, self.sums))
        error: np.ndarray = self.squares[ends] - self.squares[starts] - total**2 / np.maximum(count, 1)
        return error


def _summed_from(bins: np.ndarray, middle: int) -> np.ndarray:
    """Sums of the bins from `middle` to each edge, negative for the edges before it."""
    before, behind = -np.cumsum(bins[:middle][::-1])[::-1], np.cumsum(bins[middle:])
    return np.concatenate([before, [0.0], behind])


def best_edges(seen: Sums, clusters: int) -> np.ndarray:
    """The first bin of each cluster, and the end, int `[clusters + 1]`, for the least sum of squared distances.

    Dynamic programming: the best `q` clusters of the first `j` bins are the best `q - 1` of the first `i`, and one
    more. The best `i` never falls as `j` grows, so that every row takes `bins * log(bins)` steps.
    """
    bins = len(seen.counts) - 1
    ends = np.arange(bins + 1)
    least, chosen = seen.error(np.zeros_like(ends), ends), []
    for _ in range(1, clusters):
        least, start = _one_more(seen, least)
        chosen.append(start)
    edges = [bins]
    for start in reversed(chosen):
        edges.append(int(start[edges[-1]]))
    return np.array([0, *reversed(edges)])


def _one_more(seen: Sums, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For the first `j` bins, every `j`: the least error with one more cluster, and the bin where that begins.

    The middle of all `j` first, then the middles of both halves, each of which need only look between what their
    neighbours found; all of one level at once.
    """
    bins = len(least) - 1
    lowest, start = np.zeros(bins + 1), np.zeros(bins + 1, np.int64)
    step = 1 << max(0, bins.bit_length() - 1)
    while step:
        ends = np.arange(step, bins + 1, 2 * step)
        after = ends + step
        last = np.minimum(np.where(after <= bins, start[np.minimum(after, bins)], bins), ends - 1)
        first = np.minimum(start[ends - step], last)
        lengths = last - first + 1
        begins = np.cumsum(lengths) - lengths
        owner = np.repeat(np.arange(len(ends)), lengths)
        tried = np.arange(len(owner)) - begins[owner] + first[owner]
        errors = least[tried] + seen.error(tried, ends[owner])
        lowest[ends] = np.minimum.reduceat(errors, begins)
        hits = np.flatnonzero(errors == lowest[ends][owner])[::-1]
        start[ends[owner[hits]]] = tried[hits]  # the last to be written is the first that is best
        step //= 2
    return lowest, start
