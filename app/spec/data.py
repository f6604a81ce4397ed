"""Datasets: data and a declaration of how to use it, never code."""

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from app.spec.base import Frozen
from app.spec.signature import DType
from app.spec.tokenize import Tokenize, TokenizerInfo
from app.spec.transforms import Shape, Transform

LABELS = "y"
"""The array that holds the labels, unless a model has an input of that name; every other array is such an input."""

IMAGE = "image"
"""The array that holds the pictures of an image folder, unless the data set names another."""

SPLIT_ROLES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "calibration": "calibration",
}
"""Usual names of splits, declared or of folders, and the role that each is meant for."""

SplitName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


def split_bounds(rows: int, shares: dict[str, float]) -> dict[str, tuple[int, int]]:
    """First and last (exclusive) position of each split in the shuffled rows, in the order declared.

    A bound is the sum of the shares so far times `rows`, rounded down: splits never overlap, each is within
    one row of its share, and shares that add up to 1 use every row.
    """
    bounds, total, start = {}, 0.0, 0
    for name, share in shares.items():
        total += share
        end = min(rows, int(total * rows + 1e-6))  # 0.1 + 0.2 of 10 rows are 3 rows, not 2.9999
        bounds[name] = (start, end)
        start = end
    return bounds


class DatasetSpec(Frozen):
    """How the rows of an upload are to be used."""

    splits: dict[SplitName, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=dict,
        description="Named shares of the rows, e.g. {'train': 0.6, 'calibration': 0.2, 'test': 0.2}. Rows are "
        "shuffled once with `seed`; splits never overlap. Empty: the data set is used whole, or by the split folders "
        "that an image archive has.",
    )
    seed: int = Field(0, ge=0, lt=2**32)
    preprocess: dict[str, tuple[Transform, ...]] = Field(
        default_factory=dict, description="Transforms by input name, applied to each sample in order."
    )
    shapes: dict[str, Annotated[tuple[Annotated[int, Field(ge=1, le=1 << 31)], ...], Field(max_length=16)]] = Field(
        default_factory=dict,
        description="Shapes of samples by column of a Parquet file, e.g. {'image': [3, 32, 32]}: its lists are read "
        "as one run of values, and nested lists do not say how long they are.",
    )
    tokenize: Tokenize | None = Field(
        None,
        description="Makes inputs of a Parquet file's columns of text. Upload a zip that holds the .parquet file, not "
        "compressed again, and the model's tokenizer.json.",
    )
    image: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="The model's input that takes the pictures of an image folder. If it is not given, the pictures "
        "are called 'image', and feed the only input of a model that has one.",
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> "DatasetSpec":
        if sum(self.splits.values()) > 1 + 1e-9:
            raise ValueError("the splits' shares add up to more than 1")
        if self.image == LABELS:
            raise ValueError(f"'{LABELS}' are the labels, not an input")
        return self


DataFormat = Literal["npz", "images", "parquet"]


class ArraySpec(Frozen):
    """One array of a data set; `shape` includes the rows, and a range where samples differ in size."""

    dtype: DType
    shape: Shape


class DatasetInfo(Frozen):
    """What reading a data set, without keeping it in memory, tells."""

    format: DataFormat
    rows: int
    arrays: dict[str, ArraySpec]
    label_range: tuple[int, int] | None = None
    """Smallest and largest value of integer labels `y`."""
    classes: tuple[str, ...] = ()
    """What the labels stand for, from 0, where the data set says so: the folders' names, in order."""
    tokenizer: TokenizerInfo | None = None
    """What encodes the text, where that is declared; the arrays it makes are among `arrays`."""
    splits: dict[SplitName, int] = Field(default_factory=dict)
    """Rows of each split that the archive itself makes with its folders."""


def labels_in(arrays: Collection[str], inputs: Collection[str]) -> bool:
    """Whether `y` holds labels for a model with these inputs: an input of that name is fed by it."""
    return LABELS in arrays and LABELS not in inputs


def split_names(info: DatasetInfo, spec: DatasetSpec) -> tuple[str, ...]:
    """The splits that may be asked for: those declared, or else those that the archive has."""
    return tuple(spec.splits or info.splits)


def array_for(
    name: str, inputs: Collection[str], arrays: Collection[str], format_: DataFormat, spec: DatasetSpec
) -> str | None:
    """The one of `arrays` that feeds the input `name` of a model with these inputs; None if there is none."""
    if name in arrays:
        return name
    only_one = format_ == "images" and spec.image is None and len(inputs) == 1
    return IMAGE if only_one else None
