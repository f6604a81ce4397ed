"""One-dimensional k-means on a histogram: as many weights as you like in the time of a few thousand bins."""

from dataclasses import dataclass

import numpy as np

from worker.engine.plan.partition import Sums, best_edges
from worker.engine.plan.zeros import are_meant

BINS = 1 << 16
"""Between the smallest and the largest value. Within one, values are not told apart."""
ORDINARY = 32.0
"""Half of the widths between the quartiles within which bins are equally wide; further out they become wider."""
BINS_PER_VALUE = 4
"""A small group has no use for more."""
SMOOTHED = 1 / 256
"""Share of the bins that the density is averaged over."""
CELLS, CELLS_PER_CLUSTER = 1024, 16
"""Bins are joined to at most so many before the best partition is looked for; then the edges move bin by bin."""
ROUNDS = 300
STILL = 1e-7
"""Movement of every centroid, as a share of the range, that counts as none."""
FEWEST = 4
"""Clusters of which zero gets one where zeros are meant; of fewer only if most values are zero."""
SAMPLE = 1 << 18
"""Values that tell how wide a tensor's distribution is."""


def cluster(values: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """The centroids, float32 `[clusters]` and ascending, and for each of the values, any shape, its centroid, uint8.

    The best partition of some thousand cells, which dynamic programming finds, then Lloyd's algorithm on the bins,
    where sums over a cluster are differences of prefix sums: 25 M weights take 1 to 2 seconds. A cell is an equal share
    of the cube root of the density, as the best clusters are where there are many (W. R. Bennett, Spectra of Quantized
    Signals, 1948). Values that are few are kept as they are. Bins are equally wide where nearly all values are, and
    those further out have a width in proportion to their distance, so that one outlier does not take all bins.
    """
    flat = values.reshape(-1).astype(np.float32, copy=False)
    few = _distinct(flat, clusters)
    if few is not None:
        table, places = few
        return _filled(table, clusters), places.astype(np.uint8).reshape(values.shape)
    nonzero = flat != 0
    if are_meant(flat) and (clusters >= FEWEST or not np.median(flat)):
        return _around_zero(flat, nonzero, clusters, values.shape)
    table, places = _best(flat, clusters)
    return table, places.reshape(values.shape)


def _around_zero(
    flat: np.ndarray, nonzero: np.ndarray, clusters: int, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster what is left of a pruned tensor, and keep its zeros."""
    rest, indices = cluster(flat[nonzero], clusters - 1)
    order = np.argsort(np.append(rest, np.float32(0)), kind="stable")
    rank = np.empty(clusters, np.uint8)
    rank[order] = np.arange(clusters, dtype=np.uint8)
    places = np.full(flat.size, rank[-1], np.uint8)
    places[nonzero] = rank[:-1][indices]
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
class _Axis:
    """Where a value lies among the bins: in proportion to it around the middle, to its logarithm further out."""

    middle: float
    reach: float
    """Up to which distance from the middle bins are equally wide."""

    @classmethod
    def of(cls, flat: np.ndarray) -> "_Axis":
        """For these values."""
        first, middle, third = np.quantile(flat[:: max(1, flat.size // SAMPLE)], [0.25, 0.5, 0.75]).astype(np.float64)
        farthest = max(float(flat.max()) - middle, middle - float(flat.min()))
        reach = ORDINARY * (third - first) / 2
        return cls(middle, reach if 0 < reach < farthest else farthest)

    def at(self, values: np.ndarray) -> np.ndarray:
        """The places of values, of the same dtype, that grow with them; equal to the distance within reach."""
        away = values - values.dtype.type(self.middle)
        beyond = np.abs(away) > self.reach
        if beyond.any():
            away[beyond] = np.sign(away[beyond]) * self.reach * (1 + np.log(np.abs(away[beyond]) / self.reach))
        return away


@dataclass(frozen=True)
class _Histogram(Sums):
    """Sums over bins of equal width on an axis."""

    axis: _Axis
    low: float
    per_unit: float

    def edges(self, centroids: np.ndarray) -> np.ndarray:
        """The first bin of each cluster, and the end: halfway between neighbours."""
        halfway = (self.axis.at((centroids[1:] + centroids[:-1]) / 2) - self.low) * self.per_unit + 0.5
        bins = len(self.counts) - 1
        return np.concatenate([[0], np.clip(halfway, 0, bins).astype(np.int64), [bins]])


def _best(flat: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    # Count the values in bins, and keep prefix sums of their counts, sums and squares.
    bins = int(min(BINS, max(16 * clusters, BINS_PER_VALUE * flat.size)))
    axis = _Axis.of(flat)
    along = axis.at(flat)
    low, high = float(along.min()), float(along.max())
    per_unit = (bins - 1) / (high - low)
    places = ((along - np.float32(low)) * np.float32(per_unit)).astype(np.int32)
    np.clip(places, 0, bins - 1, out=places)
    counts = np.bincount(places, minlength=bins).astype(np.float64)
    sums = np.bincount(places, weights=flat, minlength=bins)
    squares = np.divide(sums**2, counts, out=np.zeros(bins), where=counts > 0)
    whole = Sums.of(counts, sums, squares)
    seen = _Histogram(whole.counts, whole.sums, whole.squares, axis, low, per_unit)
    # Find the best partition of the cells, then let each centroid settle among single bins.
    cells = _cells(counts, max(CELLS, CELLS_PER_CLUSTER * clusters))
    edges = cells[best_edges(seen.at(cells), clusters)]
    centroids = _settled(seen, seen.means(edges[:-1], edges[1:], np.zeros(clusters)), STILL * (high - low))
    # Each value has the centroid of its bin.
    owner = np.repeat(np.arange(clusters, dtype=np.uint8), np.diff(seen.edges(centroids)))
    return centroids.astype(np.float32), owner[places]


def _cells(counts: np.ndarray, most: int) -> np.ndarray:
    """Edges of cells with equal shares of the density's cube root, each with a value in it."""
    width = max(1, int(len(counts) * SMOOTHED)) | 1
    smooth = np.convolve(counts, np.full(width, 1 / width), "same")
    share = np.cumsum(np.cbrt(np.maximum(smooth, 0)))
    edges = np.searchsorted(share, np.arange(1, most) / most * share[-1], side="right")
    edges = np.unique(np.concatenate([[0], edges, [len(counts)]]))
    held = np.cumsum(np.concatenate([[0.0], counts]))[edges]
    return edges[np.concatenate([[True], np.diff(held) > 0])]


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
