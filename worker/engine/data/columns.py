"""What the rows of a data set are read from: one column for each array, on disk, whatever the format."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from app.spec.data import IMAGE, LABELS
from app.spec.transforms import varies
from app.spec.work import DataFile
from worker.engine.data.images import Pictures
from worker.engine.data.npz import open_arrays
from worker.engine.data.parquet import open_parquet


class Column(Protocol):
    """One array of a data set; rows are read when they are taken."""

    def __len__(self) -> int:
        """How many rows it has."""

    @property
    def uniform(self) -> bool:
        """Whether all samples have one shape; if not, they must be taken one at a time."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows at these positions, in this order, `[len(rows), *sample]`; raises `EngineError`."""


@dataclass(frozen=True)
class Values:
    """A column that is small enough to be kept: the labels of an image folder."""

    values: np.ndarray
    uniform: bool = True

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The values at these positions."""
        return np.asarray(self.values[rows])


@dataclass(frozen=True)
class Columns:
    """The columns of a data set by name, and the rows of the splits that its file makes itself."""

    columns: Mapping[str, Column]
    splits: Mapping[str, np.ndarray] = field(default_factory=dict)


def open_columns(path: Path, file: DataFile, scratch: Path, inputs: Collection[str] | None = None) -> Columns:
    """Open the data set at `path`, of a Parquet file only the `inputs` and the labels; raises `UnreadableData`."""
    if file.info.format == "images":
        return _image_folder(path, file)
    if file.info.format == "parquet":
        wanted = file.info.arrays if inputs is None else {*inputs, LABELS}
        return Columns(open_parquet(path, file, scratch, wanted))
    return Columns(open_arrays(path, scratch))


def _image_folder(path: Path, file: DataFile) -> Columns:
    name = file.spec.image or IMAGE
    pictures = Pictures.open(path, uniform=not varies(file.info.arrays[name].shape))
    index = pictures.index
    splits = {split: index.rows_of(split) for split in index.splits}
    return Columns({name: pictures, LABELS: Values(index.label.astype(np.int64))}, splits)
