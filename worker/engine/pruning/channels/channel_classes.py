"""Which positions of which tensors live and die together: a union-find over integer labels, in whole arrays."""

import numpy as np

Labels = np.ndarray
"""One label for each position along one dimension of a tensor, int64 `[size]`."""
Dims = tuple[Labels, ...]
"""The labels of a tensor, dimension by dimension."""

FROZEN = 0
"""The class of every position that must stay."""


def frozen(size: int) -> Labels:
    """Labels of a dimension that stays whole. They take no memory, however many there are."""
    return np.broadcast_to(np.int64(FROZEN), (size,))


def count_left(classes: Labels, pruned_mask: np.ndarray) -> int:
    """How many positions with these classes are left without those that `pruned_mask` marks, bool by class."""
    return len(classes) if _without_memory(classes) else int(np.count_nonzero(~pruned_mask[classes]))


class Classes:
    """Classes of labels. All operations work on arrays: a network has some hundred thousand labels."""

    def __init__(self) -> None:
        self._parent = np.zeros(1024, np.int64)
        self._count = 1

    def __len__(self) -> int:
        """How many labels there are, the frozen one included."""
        return self._count

    def new(self, size: int) -> Labels:
        """Labels in classes of their own."""
        start, self._count = self._count, self._count + size
        if self._count > len(self._parent):
            self._parent = np.resize(self._parent, 2 * self._count)
        labels = np.arange(start, self._count)
        self._parent[start : self._count] = labels
        return labels

    def roots(self, labels: Labels) -> Labels:
        """The name of each label's class: its smallest label."""
        if _without_memory(labels):
            return labels
        roots = self._parent[labels]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[labels] = roots
        return roots

    def union(self, ones: Labels, others: Labels) -> None:
        """Merge the classes of each pair; what meets a frozen label is frozen.

        All pairs at once: the larger root of each is hung below the smallest it is paired with, until none differ.
        """
        ones, others = np.broadcast_arrays(ones, others)
        if _without_memory(ones) and _without_memory(others):
            return
        while True:
            ones, others = self.roots(np.ascontiguousarray(ones)), self.roots(np.ascontiguousarray(others))
            differ = ones != others
            if not differ.any():
                return
            ones, others = ones[differ], others[differ]
            np.minimum.at(self._parent, np.maximum(ones, others), np.minimum(ones, others))

    def freeze(self, *dims: Labels) -> None:
        """Keep these positions whatever happens."""
        for labels in dims:
            if not _without_memory(labels):
                self.union(labels, np.zeros_like(labels))

    def tie(self, ones: Labels, others: Labels) -> None:
        """Merge position by position, or freeze both where their numbers differ."""
        if len(ones) == len(others):
            self.union(ones, others)
        else:
            self.freeze(ones, others)

    def removable(self, labels: Labels) -> bool:
        """Whether any of these positions may be removed, as far as is known."""
        return not _without_memory(labels) and bool(self.roots(labels).any())


def _without_memory(labels: Labels) -> bool:
    return labels.ndim == 1 and labels.strides == (0,)
