"""Declarative preprocessing: what is done to a sample before the model sees it, and what shape and dtype that gives."""

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.spec.base import Frozen
from app.spec.signature import FLOATS, Dimension, DType

Shape = tuple[int | Dimension, ...]
"""Sizes of a sample's axes; a `Dimension` where samples differ, with the smallest and largest size if known."""


class TransformMismatch(ValueError):
    """A transform cannot be applied to samples of this shape or dtype."""


def to_floats(dtype: str, *, into: str = "float32") -> str:
    """How to make floats of an array, as the end of a sentence: `to_float` divides by 255, which only bytes mean."""
    if dtype == "uint8" and into == "float32":
        return "put to_float before it (bytes become 0 to 1)"
    return f"store them as {into} (array.astype('{into}'))"


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
            raise TransformMismatch(f"normalize needs float data, these are {dtype}; {to_floats(dtype)}")
        if len(self.mean) > 1 and (self.axis >= len(shape) or shape[self.axis] != len(self.mean)):
            raise TransformMismatch(
                f"normalize has {len(self.mean)} channels, axis {self.axis} of {written(shape)} has not"
            )
        return shape, dtype


class ChannelsFirst(_Transform):
    """Move the last axis to the front: height, width, channels becomes channels, height, width."""

    type: Literal["channels_first"] = "channels_first"

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        if len(shape) < 2:
            raise TransformMismatch(f"channels_first needs at least two axes, samples are {written(shape)}")
        return (shape[-1], *shape[:-1]), dtype


class Grayscale(_Transform):
    """Weigh red, green and blue (ITU-R BT.601) into one channel; samples are channels, height, width."""

    type: Literal["grayscale"] = "grayscale"

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        if len(shape) != 3 or shape[0] != 3:
            raise TransformMismatch(f"grayscale needs samples of shape [3, height, width], these are {written(shape)}")
        if dtype not in FLOATS:
            raise TransformMismatch(f"grayscale needs float data, these are {dtype}; {to_floats(dtype)}")
        return (1, *shape[1:]), dtype


class Resize(_Transform):
    """Scale height and width bilinearly with antialiasing; samples are channels, height, width."""

    type: Literal["resize"] = "resize"
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        _require_pixels("resize", shape, dtype)
        return (shape[0], self.height, self.width), dtype


class ResizeShorter(_Transform):
    """Scale bilinearly with antialiasing until the shorter side has `size` pixels, as torchvision's `Resize(size)`.

    The longer side keeps the picture's proportions, rounded down; a `center_crop` makes all samples alike.
    """

    type: Literal["resize_shorter"] = "resize_shorter"
    size: int = Field(ge=1, le=4096)

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        _require_pixels("resize_shorter", shape, dtype)
        channels, height, width = shape
        if isinstance(height, int) and isinstance(width, int):
            return (channels, *self.sides(height, width)), dtype
        return (channels, *(Dimension(name=name, min=self.size) for name in ("height", "width"))), dtype

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture afterwards."""
        short, long = min(height, width), max(height, width)
        scaled = int(self.size * long / short)
        return (self.size, scaled) if height <= width else (scaled, self.size)


class CenterCrop(_Transform):
    """Cut the middle; samples are channels, height, width."""

    type: Literal["center_crop"] = "center_crop"
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)

    def after(self, shape: Shape, dtype: DType) -> tuple[Shape, DType]:
        if len(shape) != 3 or _least(shape[1]) < self.height or _least(shape[2]) < self.width:
            smallest = " x ".join(str(_least(size)) for size in shape[1:])
            raise TransformMismatch(
                f"center_crop to {self.height} x {self.width} does not fit samples of {written(shape)}, of which the "
                f"smallest are {smallest}; put resize or resize_shorter before it"
            )
        return (shape[0], self.height, self.width), dtype


Transform = Annotated[
    ToFloat | Normalize | ChannelsFirst | Grayscale | Resize | ResizeShorter | CenterCrop, Field(discriminator="type")
]


def written(shape: Shape) -> str:
    """A shape as users write it: [batch, 3, 32, 32]."""
    return f"[{', '.join(str(size) if isinstance(size, int) else size.name for size in shape)}]"


def varies(shape: Shape) -> bool:
    """Whether samples of this shape differ in size, so that they cannot be stacked."""
    return not all(isinstance(size, int) for size in shape)


def _least(size: int | Dimension) -> int:
    return size if isinstance(size, int) else size.min or 0


def _require_pixels(transform: str, shape: Shape, dtype: DType) -> None:
    if len(shape) != 3:
        raise TransformMismatch(
            f"{transform} needs samples of shape [channels, height, width], these are {written(shape)}"
        )
    if dtype not in FLOATS:
        raise TransformMismatch(f"{transform} needs float data, these are {dtype}; {to_floats(dtype)}")
