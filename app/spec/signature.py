"""What goes into a model and what comes out."""

from typing import Literal

from app.spec.architecture import Architecture
from app.spec.base import Frozen

DType = Literal[
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
]

FLOATS: frozenset[str] = frozenset({"float64", "float32", "float16", "bfloat16"})

ModelFormat = Literal["onnx", "pt2", "weights", "keras"]


class Dimension(Frozen):
    """A dimension that may vary at run time, with the range it was exported for (None: unbounded)."""

    name: str
    min: int | None = None
    max: int | None = None


class TensorSpec(Frozen):
    """One named tensor; `shape` holds a number where the size is fixed and a `Dimension` where it varies."""

    name: str
    dtype: DType
    shape: tuple[int | Dimension, ...]


def allows(wanted: int | Dimension, size: int) -> bool:
    """Whether an axis may have this size."""
    if isinstance(wanted, int):
        return wanted == size
    return (wanted.min is None or size >= wanted.min) and (wanted.max is None or size <= wanted.max)


class Signature(Frozen):
    """The named inputs and outputs of a model, in call order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class ModelInfo(Frozen):
    """What reading a model file, without loading it, tells."""

    format: ModelFormat
    signature: Signature
    parameters: int
    """Elements in all weights."""
    nodes: int
    """Of the graph; 0 for weights, whose graph a worker makes."""
    operators: dict[str, int]
    """How often each operator occurs, by its qualified name ("Conv", "com.microsoft.Gelu", "aten.relu.default")."""
    opset: int | None = None
    """The default domain's opset (ONNX only)."""
    external_data: bool = False
    """The upload is an archive: an ONNX file and the tensor files it refers to."""
    architecture: Architecture | None = None
    """The network that the file holds the weights of (format "weights")."""
    warnings: tuple[str, ...] = ()
