"""One-dimensional k-means on a histogram: as many weights as you like in the time of a few thousand bins."""

from dataclasses import dataclass

import numpy as np

BINS = 1 << 16
"""Between the smallest and the largest value. Within one, 1/65536 of the range, values are not told apart."""
BINS_PER_VALUE = 4
"""A small group has no use for more."""
SMOOTHED = 1 / 256
"""Share of the bins that the density is averaged over before the start is chosen."""
ROUNDS = 300
STILL = 1e-7
"""Movement of every centroid, as a share of the range, that counts as none."""
MOVES, WORTH, HOPE = 32, 1e-4, 4.0
"""Single moves tried once no move pays at once, at most; the share of the error that one must save after all; and by
how much the steps that follow may raise its gain."""
SPARSE = 0.25
"""Share of zeros from which a tensor counts as pruned: zero gets a centroid of its own."""


def cluster(values: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """The centroids, float32 `[clusters]` and ascending, and for each of the values, any shape, its centroid, uint8.

    Lloyd's algorithm, where sums over a cluster are differences of prefix sums over the bins: 25 M weights take 2 to 4
    seconds. Centroids start where the density's cube root has equal shares, which is the optimum for many of them
    (W. R. Bennett, Spectra of Quantized Signals, 1948). Between the runs, clusters are merged where that costs least
    and split where it gains most. Values that are few are kept as they are.
    """
    flat = values.reshape(-1).astype(np.float32, copy=False)
    few = _distinct(flat, clusters)
    if few is not None:
        table, places = few
        return _filled(table, clusters), places.astype(np.uint8).reshape(values.shape)
    nonzero = flat != 0
    if np.count_nonzero(nonzero) < (1 - SPARSE) * flat.size:
        return _around_zero(flat, nonzero, clusters, values.shape)
    table, places = _lloyd(flat, clusters)
    return table, places.reshape(values.shape)


def _around_zero(
    flat: np.ndarray, nonzero: np.ndarray, clusters: int, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster what is left of a pruned tensor, and keep its zeros."""
    rest, found = cluster(flat[nonzero], clusters - 1)
    order = np.argsort(np.append(rest, np.float32(0)), kind="stable")
    rank = np.empty(clusters, np.uint8)
    rank[order] = np.arange(clusters, dtype=np.uint8)
    places = np.full(flat.size, rank[-1], np.uint8)
    places[nonzero] = rank[:-1][found]
    return np.append(rest, np.float32(0))[order], places.reshape(shape)


def _distinct(flat: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The values themselves if there are no more than clusters. A sample tells soon that there are."""
    if np.unique(flat[: 4 * clusters]).size > clusters:
        return None
    table, places = np.unique(flat, return_inverse=True)
    return (table, places) if table.size <= clusters else None


def _filled(table: np.ndarray, clusters: int) -> np.ndarray:
    """The table with its last value repeated."""
    return np.append(table, np.full(clusters - table.size, table[-1] if table.size else 0, np.float32))


@dataclass(frozen=True)
class _Histogram:
    """Prefix sums over the bins of the number of values, of the values and of their squares, a 0 first."""

    low: float
    per_unit: float
    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    def edges(self, centroids: np.ndarray) -> np.ndarray:
        """The first bin of each cluster, and the end: halfway between neighbours."""
        halfway = ((centroids[1:] + centroids[:-1]) / 2 - self.low) * self.per_unit + 0.5
        bins = len(self.counts) - 1
        return np.concatenate([[0], np.clip(halfway, 0, bins).astype(np.int64), [bins]])

    def means(self, starts: np.ndarray, ends: np.ndarray, empty: np.ndarray) -> np.ndarray:
        """Means of the values in the bins from `starts` to `ends`; `empty` where there are none."""
        count = self.counts[ends] - self.counts[starts]
        return np.where(count > 0, (self.sums[ends] - self.sums[starts]) / np.maximum(count, 1), empty)

    def error(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Sums of squared distances from those means."""
        count, total = (part[ends] - part[starts] for part in (self.counts, self.sums))
        error: np.ndarray = self.squares[ends] - self.squares[starts] - total**2 / np.maximum(count, 1)
        return error


def _lloyd(flat: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    bins = int(min(BINS, max(16 * clusters, BINS_PER_VALUE * flat.size)))
    low, high = float(flat.min()), float(flat.max())
    per_unit = (bins - 1) / (high - low)
    places = ((flat - np.float32(low)) * np.float32(per_unit)).astype(np.int32)
    np.clip(places, 0, bins - 1, out=places)
    counts = np.bincount(places, minlength=bins).astype(np.float64)
    sums = np.bincount(places, weights=flat, minlength=bins)
    squares = np.divide(sums**2, counts, out=np.zeros(bins), where=counts > 0)
    seen = _Histogram(low, per_unit, *(np.concatenate([[0.0], np.cumsum(part)]) for part in (counts, sums, squares)))
    centroids = _settled(seen, low + _start(counts, clusters) / per_unit, STILL * (high - low))
    for most, slack in ((clusters, 1.0), *[(1, HOPE)] * MOVES):
        moved = _settled(seen, _moved(seen, centroids, most, slack), STILL * (high - low))
        if slack == HOPE and _error(seen, moved) >= (1 - WORTH) * _error(seen, centroids):
            break
        centroids = moved
    owner = np.repeat(np.arange(clusters, dtype=np.uint8), np.diff(seen.edges(centroids)))
    return centroids.astype(np.float32), owner[places]


def _settled(seen: _Histogram, centroids: np.ndarray, still: float) -> np.ndarray:
    """Each centroid the mean of what is nearest to it."""
    for _ in range(ROUNDS):
        edges = seen.edges(centroids)
        moved = np.sort(seen.means(edges[:-1], edges[1:], centroids))
        change = np.abs(moved - centroids).max()
        centroids = moved
        if change < still:
            break
    return centroids


def _error(seen: _Histogram, centroids: np.ndarray) -> float:
    edges = seen.edges(centroids)
    return float(seen.error(edges[:-1], edges[1:]).sum())


def _moved(seen: _Histogram, centroids: np.ndarray, most: int, slack: float) -> np.ndarray:
    """Merge the two neighbours that lose least by it and split the cluster that gains most, while that pays.

    It pays where the gain, times `slack`, is above the loss; `most` times at most.

    Lloyd's steps alone do not carry centroids over to a long tail that the start gave too few.
    """
    for _ in range(most):
        edges = seen.edges(centroids)
        starts, ends = edges[:-1], edges[1:]
        error = seen.error(starts, ends)
        middle = np.clip(
            ((seen.means(starts, ends, centroids) - seen.low) * seen.per_unit + 1).astype(np.int64), starts, ends
        )
        gain = error - seen.error(starts, middle) - seen.error(middle, ends)
        split = int(gain.argmax())
        cost = seen.error(starts[:-1], ends[1:]) - error[:-1] - error[1:]
        cost[max(0, split - 1) : split + 1] = np.inf
        merge = int(cost.argmin())
        if not slack * gain[split] > cost[merge]:
            break
        halves = seen.means(
            np.array([starts[split], middle[split]]), np.array([middle[split], ends[split]]), centroids[[split, split]]
        )
        whole = seen.means(starts[[merge]], ends[[merge + 1]], centroids[[merge]])
        kept = np.delete(centroids, [split, merge, merge + 1])
        centroids = np.sort(np.concatenate([kept, halves, whole]))
    return centroids


def _start(counts: np.ndarray, clusters: int) -> np.ndarray:
    """Bins at equal shares of the density's cube root."""
    width = max(1, int(len(counts) * SMOOTHED)) | 1
    smooth = np.convolve(counts, np.full(width, 1 / width), "same")
    share = np.cumsum(np.cbrt(np.maximum(smooth, 0)))
    return np.searchsorted(share, (np.arange(clusters) + 0.5) / clusters * share[-1]).astype(np.float64)
