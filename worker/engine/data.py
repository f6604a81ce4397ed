"""The rows of one role, preprocessed and in batches, streamed from disk."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.spec.data import LABELS, Transform, split_bounds
from app.spec.work import DataFile
from worker.engine import transforms
from worker.engine.errors import UnreadableData
from worker.engine.npz import StoredArray, open_arrays

Batch = tuple[dict[str, np.ndarray], np.ndarray | None]
"""Model inputs by name, each `[rows, *sample]`, and the labels of these rows, `[rows, ...]`, if there are any."""

SCRATCH = "scratch"
"""Where in the job's directory temporary files go."""


@dataclass(frozen=True)
class Rows:
    """Rows of a data set: iterated as often as wanted, always in the same order, never in memory at once."""

    arrays: dict[str, StoredArray]
    preprocess: dict[str, tuple[Transform, ...]]
    indices: np.ndarray
    """Positions in the data set, int64."""

    @classmethod
    def open(cls, directory: Path, file: DataFile, inputs: Collection[str] | None = None) -> "Rows":
        """The rows of `file`, whose path is relative to the job's `directory`; only `inputs` if given, and labels.

        Raises `UnreadableData`.
        """
        arrays = open_arrays(directory / file.path, directory / SCRATCH)
        if inputs is not None:
            if missing := sorted(set(inputs) - arrays.keys()):
                raise UnreadableData(f"The data set has no array named {', '.join(missing)}.")
            arrays = {name: array for name, array in arrays.items() if name in inputs or name == LABELS}
        lengths = {array.shape[0] if array.shape else 0 for array in arrays.values()}
        if len(lengths) != 1:
            raise UnreadableData("The arrays of the data set differ in their number of rows.")
        rows = lengths.pop()
        return cls(arrays, dict(file.spec.preprocess), split_rows(rows, file))

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield every row once, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self.indices), size):
            rows = self.indices[start : start + size]
            inputs = {
                name: transforms.apply(self.preprocess.get(name, ()), array.take(rows))
                for name, array in self.arrays.items()
                if name != LABELS
            }
            yield inputs, self.arrays[LABELS].take(rows) if LABELS in self.arrays else None

    def sample(self, count: int, seed: int) -> "Rows":
        """At most `count` of these rows, drawn without replacement; all of them, in order, if there are no more."""
        if count >= len(self.indices):
            return self
        drawn = np.random.default_rng(seed).choice(len(self.indices), count, replace=False)
        return replace(self, indices=self.indices[np.sort(drawn)])


def split_rows(rows: int, file: DataFile) -> np.ndarray:
    """Positions of the split's rows: a slice of one permutation that the data set's seed decides.

    Raises `UnreadableData` if there is no such split.
    """
    if file.split is None:
        return np.arange(rows)
    bounds = split_bounds(rows, file.spec.splits)
    if file.split not in bounds:
        raise UnreadableData(f"The data set declares no split named {file.split}.")
    start, end = bounds[file.split]
    return np.random.default_rng(file.spec.seed).permutation(rows)[start:end]
