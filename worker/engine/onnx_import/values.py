"""What flows through a graph while it is made a program: tensors, and numbers that are known already.

A shape and whatever is computed of it are numbers: a NumPy array, of `object` where sizes vary (`torch.SymInt`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from worker.engine.onnx_import.errors import ImportFailed

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT64: torch.uint64,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    TensorProto.FLOAT8E8M0: torch.float8_e8m0fnu,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
}
"""By ONNX's number of a type."""
STORED: dict[Any, tuple[Any, torch.dtype]] = {
    np.dtype(ml_dtypes.bfloat16): (np.int16, torch.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn): (np.uint8, torch.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e5m2): (np.uint8, torch.float8_e5m2),
    np.dtype(ml_dtypes.float8_e4m3fnuz): (np.uint8, torch.float8_e4m3fnuz),
    np.dtype(ml_dtypes.float8_e5m2fnuz): (np.uint8, torch.float8_e5m2fnuz),
    np.dtype(ml_dtypes.float8_e8m0fnu): (np.uint8, torch.float8_e8m0fnu),
}
"""NumPy's types that torch does not read, by the integers of the same bytes."""
SMALL = {np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.uint4), np.dtype(ml_dtypes.int2), np.dtype(ml_dtypes.uint2)}
"""Held in the 8-bit type of the same sign."""


@dataclass(frozen=True)
class Quantized:
    """A tensor in integer codes, as QuantizeLinear makes it: kept as the numbers that the codes stand for.

    What merely moves it passes through; training sees through the rounding.
    """

    real: Tensor
    """float: scale * (code - zero point), already rounded to the grid."""
    scale: Any
    """A number, or a tensor that broadcasts with `real`."""
    zero_point: Any
    dtype: torch.dtype
    """Of the codes."""

    @property
    def codes(self) -> Tensor:
        """The integers that stand for the values."""
        steps = self.real / self.scale
        return (
            steps.to(self.dtype)
            if self.dtype.is_floating_point
            else (torch.round(steps) + self.zero_point).to(self.dtype)
        )

    @property
    def steps(self) -> Tensor:
        """The codes' distance from the zero point, as floats."""
        return self.real if self.scale is UNIT else self.real / self.scale

    def moved(self, real: Tensor) -> "Quantized":
        """Other numbers on the same grid."""
        return Quantized(real, self.scale, self.zero_point, self.dtype)


UNIT = 1.0
"""The scale of whole numbers that stand for themselves."""

Value = Tensor | np.ndarray | Quantized | list[Any] | None
"""Also a sequence, as a list, and an optional value that is not there."""


def tensor_of(array: np.ndarray) -> Tensor:
    """Numbers as a tensor; sizes that vary become operators of the program.

    Raises `ImportFailed` for types that PyTorch has not, such as floats of 4 bits.
    """
    if array.dtype == object:
        flat = [number_tensor(number) for number in array.reshape(-1)]
        return torch.stack(flat).reshape(array.shape) if flat else torch.zeros(array.shape, dtype=torch.int64)
    if array.dtype in STORED:
        stored, dtype = STORED[array.dtype]
        return torch.from_numpy(np.ascontiguousarray(array).view(stored).copy()).view(dtype)
    if array.dtype in SMALL:
        array = array.astype(np.uint8 if "uint" in array.dtype.name else np.int8)
    try:
        return torch.from_numpy(np.array(array, order="C"))  # a copy: constants of a file may be read-only
    except TypeError as error:
        raise ImportFailed(f"PyTorch has no tensors of {array.dtype.name}.") from error


def number_tensor(number: Any) -> Tensor:
    """One number, which may vary, as a tensor without axes."""
    if isinstance(number, bool | np.bool_ | torch.SymBool):
        return torch.scalar_tensor(int(number), dtype=torch.bool)
    dtype = torch.float32 if isinstance(number, float | np.floating | torch.SymFloat) else torch.int64
    return torch.scalar_tensor(number, dtype=dtype)


def array_of(tensor: Tensor) -> np.ndarray:
    """A real tensor's numbers."""
    tensor = tensor.detach().resolve_conj().contiguous()
    for kind, (stored, dtype) in STORED.items():
        if tensor.dtype == dtype:
            return tensor.view(torch.int16 if stored is np.int16 else torch.uint8).numpy().view(kind)
    return tensor.numpy()


def numbers(values: Sequence[Any]) -> np.ndarray:
    """Whole numbers, some of which may vary, as an array with one axis."""
    if all(isinstance(value, int | np.integer) for value in values):
        return np.array(values, np.int64)
    held = np.empty(len(values), object)
    held[:] = list(values)
    return held


def is_symbolic(array: np.ndarray) -> bool:
    """Whether sizes that vary are among the numbers."""
    return array.dtype == object


def each(function: Callable[..., Any], inputs: int) -> Callable[..., np.ndarray]:
    """`function` of so many numbers, applied to arrays of them with broadcasting."""
    ufunc = np.frompyfunc(function, inputs, 1)

    def apply(*arrays: np.ndarray) -> np.ndarray:
        result = ufunc(*arrays)
        held = np.empty(np.shape(result), object)
        held[...] = result
        return in_numpy_type(held)

    return apply


def in_numpy_type(array: np.ndarray) -> np.ndarray:
    """The numbers in a type of NumPy's, if none of them varies."""
    if array.dtype != object or not array.size:
        return array
    kinds = {type(number) for number in array.reshape(-1)}
    if any(issubclass(kind, torch.SymInt | torch.SymFloat | torch.SymBool) for kind in kinds):
        return array
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return array.astype(bool)
    whole = all(issubclass(kind, int | np.integer | bool | np.bool_) for kind in kinds)
    return array.astype(np.int64 if whole else np.float32)
