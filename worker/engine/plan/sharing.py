"""Weights that share a few values: a table for each group of rows, and an index into it for each weight."""

from dataclasses import dataclass

import numpy as np

from worker.engine.plan.kmeans import cluster
from worker.engine.plan.layout import Layout
from worker.engine.plan.packing import bits_for, packed_bytes


@dataclass(frozen=True, eq=False)
class SharedWeight:
    """A weight as tables and indices; `values` is what the delivered model computes with."""

    layout: Layout
    tables: np.ndarray
    """float32 `[groups, clusters]`."""
    indices: np.ndarray
    """uint8 `[rows, columns]`."""
    group: int
    """Rows that share a table; the last group may have fewer."""

    @property
    def clusters(self) -> int:
        """Number of values in a table."""
        return int(self.tables.shape[1])

    @property
    def bits(self) -> int:
        """Bits of an index into the table."""
        return bits_for(self.clusters)

    @property
    def bytes(self) -> int:
        """Of packed indices and tables."""
        return packed_bytes(self.indices.size, self.bits) + self.tables.nbytes

    def matrix(self) -> np.ndarray:
        """The values, float32 `[rows, columns]`."""
        groups = np.arange(len(self.indices)) // self.group
        return self.tables[groups[:, None], self.indices]

    def values(self) -> np.ndarray:
        """The values, float32, in the shape of the tensor they replace."""
        return self.layout.tensor(self.matrix())


def share(tensor: np.ndarray, layout: Layout, clusters: int, group: int | None) -> SharedWeight:
    """Cluster a float32 tensor; `group` rows share a table, all of them if it is None."""
    matrix = layout.matrix(tensor)
    group = min(group or layout.rows, layout.rows)
    clustered = [cluster(matrix[start : start + group], clusters) for start in range(0, layout.rows, group)]
    return SharedWeight(
        layout,
        np.stack([table for table, _ in clustered]),
        np.concatenate([indices for _, indices in clustered]),
        group,
    )
