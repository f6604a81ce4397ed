"""Datasets: data and a declaration of how to use it, never code."""

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from app.spec.base import Frozen
from app.spec.signature import FLOATS, DType

LABELS = "y"
"""The array that holds the labels; every other array is a model input of that name."""

SplitName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Shape = tuple[int, ...]


class TransformMismatch(ValueError):
    """A transform cannot be applied to samples of this shape or dtype."""


class _Transform(Frozen):
    @abstractmethod
    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        """Shape (without the batch) and dtype of a sample after this transform; raises `TransformMismatch`."""


class ToFloat(_Transform):
    """Convert to float32 and multiply by `scale`."""

    type: Literal["to_float"] = "to_float"
    scale: float = Field(1 / 255, description="Factor applied after the conversion; 1/255 maps bytes to 0..1.")

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:  # noqa: ARG002  # any dtype becomes float32
        return shape, "float32"


class Normalize(_Transform):
    """Subtract `mean` and divide by `std`, per channel (or one value for all)."""

    type: Literal["normalize"] = "normalize"
    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    axis: int = Field(0, ge=0, description="The channel axis of a sample (without the batch).")

    @model_validator(mode="after")
    def _same_length(self) -> "Normalize":
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must have the same length")
        return self

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        if dtype not in FLOATS:
            raise TransformMismatch(f"normalize needs float data, these are {dtype}; put to_float before it")
        if len(self.mean) > 1 and (self.axis >= len(shape) or shape[self.axis] != len(self.mean)):
            raise TransformMismatch(
                f"normalize has {len(self.mean)} channels, axis {self.axis} of {list(shape)} has not"
            )
        return shape, dtype


class ChannelsFirst(_Transform):
    """Move the last axis to the front: height, width, channels becomes channels, height, width."""

    type: Literal["channels_first"] = "channels_first"

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        if len(shape) < 2:
            raise TransformMismatch(f"channels_first needs at least two axes, samples are {list(shape)}")
        return (shape[-1], *shape[:-1]), dtype


class Grayscale(_Transform):
    """Weigh red, green and blue (ITU-R BT.601) into one channel; samples are channels, height, width."""

    type: Literal["grayscale"] = "grayscale"

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        if len(shape) != 3 or shape[0] != 3:
            raise TransformMismatch(f"grayscale needs samples of shape [3, height, width], these are {list(shape)}")
        if dtype not in FLOATS:
            raise TransformMismatch(f"grayscale needs float data, these are {dtype}; put to_float before it")
        return (1, *shape[1:]), dtype


class Resize(_Transform):
    """Scale height and width bilinearly with antialiasing; samples are channels, height, width."""

    type: Literal["resize"] = "resize"
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        if len(shape) != 3:
            raise TransformMismatch(f"resize needs samples of shape [channels, height, width], these are {list(shape)}")
        if dtype not in FLOATS:
            raise TransformMismatch(f"resize needs float data, these are {dtype}; put to_float before it")
        return (shape[0], self.height, self.width), dtype


class CenterCrop(_Transform):
    """Cut the middle; samples are channels, height, width."""

    type: Literal["center_crop"] = "center_crop"
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        if len(shape) != 3 or shape[1] < self.height or shape[2] < self.width:
            raise TransformMismatch(f"center_crop to {self.height}x{self.width} does not fit samples of {list(shape)}")
        return (shape[0], self.height, self.width), dtype


Transform = Annotated[
    ToFloat | Normalize | ChannelsFirst | Grayscale | Resize | CenterCrop, Field(discriminator="type")
]


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
        "shuffled once with `seed`; splits never overlap. Empty: the data set is used whole.",
    )
    seed: int = Field(0, ge=0, lt=2**32)
    preprocess: dict[str, tuple[Transform, ...]] = Field(
        default_factory=dict, description="Transforms by input name, applied to each sample in order."
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> "DatasetSpec":
        if sum(self.splits.values()) > 1 + 1e-9:
            raise ValueError("the splits' shares add up to more than 1")
        return self


class ArraySpec(Frozen):
    """One array of a data set; `shape` includes the rows."""

    dtype: DType
    shape: Shape


class DatasetInfo(Frozen):
    """What reading a data set, without keeping it in memory, tells."""

    format: Literal["npz"]
    rows: int
    arrays: dict[str, ArraySpec]
    label_range: tuple[int, int] | None = None
    """Smallest and largest value of integer labels `y`."""
