"""The rows of one role, preprocessed and in batches, streamed from disk."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from app.spec.data import LABELS, array_for, labels_in, split_bounds
from app.spec.transforms import Transform
from app.spec.work import DataFile
from worker.engine.data import transforms
from worker.engine.data.columns import Column, open_columns
from worker.engine.data.errors import UnreadableData

Batch = tuple[dict[str, np.ndarray], np.ndarray | None]
"""Model inputs by name, each `[rows, *sample]`, and the labels of these rows, `[rows, ...]`, if there are any."""

SCRATCH = "scratch"
"""Where in the job's directory temporary files go."""


@dataclass(frozen=True)
class Rows:
    """Rows of a data set: iterated as often as wanted, always in the same order, never in memory at once."""

    arrays: Mapping[str, Column]
    """By the names of the model's inputs."""
    preprocess: Mapping[str, tuple[Transform, ...]]
    indices: np.ndarray
    """Positions in the data set, int64."""
    labels: Column | None = None

    @classmethod
    def open(cls, directory: Path, file: DataFile, inputs: Collection[str] | None = None) -> "Rows":
        """The rows of `file`, whose path is relative to the job's `directory`; only `inputs` if given, and labels.

        Raises `UnreadableData`.
        """
        opened = open_columns(directory / file.path, file, directory / SCRATCH, inputs)
        columns, preprocess = opened.columns, file.spec.preprocess
        labels = columns[LABELS] if labels_in(columns, inputs or ()) else None
        if inputs is None:
            columns = {name: column for name, column in columns.items() if name != LABELS}
        else:
            feeds = {name: array_for(name, inputs, columns, file.info.format, file.spec) for name in inputs}
            if missing := sorted(name for name, column in feeds.items() if column is None):
                raise UnreadableData(f"The data set has no array named {', '.join(missing)}.")
            columns = {name: columns[column] for name, column in feeds.items() if column is not None}
            preprocess = {name: preprocess[column] for name, column in feeds.items() if column in preprocess}
        lengths = {len(column) for column in (*columns.values(), *([] if labels is None else [labels]))}
        if len(lengths) != 1:
            raise UnreadableData("The arrays of the data set differ in their number of rows.")
        return cls(columns, dict(preprocess), split_rows(lengths.pop(), file, opened.splits), labels)

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield every row once, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self.indices), size):
            rows = self.indices[start : start + size]
            inputs = {name: self._input(name, rows) for name in self.arrays}
            yield inputs, None if self.labels is None else self.labels.take(rows)

    def sample(self, count: int, seed: int) -> "Rows":
        """At most `count` of these rows, drawn without replacement; all of them, in order, if there are no more."""
        if count >= len(self.indices):
            return self
        drawn = np.random.default_rng(seed).choice(len(self.indices), count, replace=False)
        return replace(self, indices=self.indices[np.sort(drawn)])

    def _input(self, name: str, rows: np.ndarray) -> np.ndarray:
        column, steps = self.arrays[name], self.preprocess.get(name, ())
        if column.uniform:
            return transforms.apply(steps, column.take(rows))
        batch: np.ndarray | None = None
        for place in range(len(rows)):
            (sample,) = transforms.apply(steps, column.take(rows[place : place + 1]))
            if batch is None:
                batch = np.empty((len(rows), *sample.shape), sample.dtype)
            if sample.shape != batch.shape[1:]:
                raise UnreadableData(f"The samples for input {name} differ in size after preprocessing.")
            batch[place] = sample
        return column.take(rows) if batch is None else batch


def split_rows(rows: int, file: DataFile, made: Mapping[str, np.ndarray] = MappingProxyType({})) -> np.ndarray:
    """Positions of the split's rows: a slice of one permutation that the data set's seed decides.

    Where no split is declared, those `made` by the file itself count. Raises `UnreadableData` if there is no such
    split.
    """
    if file.split is None:
        return np.arange(rows)
    if not file.spec.splits and file.split in made:
        return made[file.split]
    bounds = split_bounds(rows, file.spec.splits)
    if file.split not in bounds:
        raise UnreadableData(f"The data set declares no split named {file.split}.")
    start, end = bounds[file.split]
    return np.random.default_rng(file.spec.seed).permutation(rows)[start:end]
