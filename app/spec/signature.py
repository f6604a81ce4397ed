"""What goes into a model and what comes out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class LinearSize:
    """A size that is `factor` times another one plus `offset`, as torch.export derives them: `2*s77 + 1`."""

    symbol: str
    factor: int = 1
    offset: int = 0

    def at(self, sizes: Mapping[str, int]) -> int:
        """The size where the symbol has the one in `sizes`."""
        return self.factor * sizes[self.symbol] + self.offset

    def solved(self, wanted: int) -> int:
        """The symbol's size for which this one is closest to `wanted` from above; at least 1."""
        return max(1, -(-(wanted - self.offset) // self.factor))


_LINEAR = re.compile(r"(?:(\d{1,9})\*)?([A-Za-z_]\w*)(?: ([+-]) (\d{1,9}))?|(\d{1,9}) \+ ([A-Za-z_]\w*)", re.ASCII)


def linear_size(name: str) -> LinearSize:
    """What a dimension's name says about its size; a name that is no such expression is a symbol itself."""
    match = _LINEAR.fullmatch(name)
    if match is None:
        return LinearSize(name)
    factor, symbol, sign, offset, first, other = match.groups()
    if other is not None:
        return LinearSize(other, 1, int(first))
    return LinearSize(symbol, int(factor or 1) or 1, int(f"{sign or ''}{offset or 0}"))


def allows(wanted: int | Dimension, size: int) -> bool:
    """Whether an axis may have this size."""
    if isinstance(wanted, int):
        return wanted == size
    if (size - (linear := linear_size(wanted.name)).offset) % linear.factor:
        return False
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
