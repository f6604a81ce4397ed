"""How many rows a model takes at once, and rows for one that was given none."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from app.spec.signature import Dimension, Signature, TensorSpec
from worker.engine.data import Batch, Rows
from worker.engine.measure.errors import InputNotSupported

UNBOUNDED = 1 << 20
SYNTHETIC_ROWS = 64
FREE_SIZE = 64
"""Taken for a dynamic dimension that is not the batch, within the bounds it was exported for."""


@dataclass(frozen=True)
class BatchRange:
    """The smallest and largest number of rows a model takes; equal where the batch is fixed."""

    low: int
    high: int

    @classmethod
    def of(cls, signature: Signature) -> "BatchRange":
        """Read from the first axis of every input that has one."""
        low, high = 1, UNBOUNDED
        for tensor in signature.inputs:
            if not tensor.shape:
                continue
            first = tensor.shape[0]
            if isinstance(first, int):
                return cls(first, first)
            low, high = max(low, first.min or 1), min(high, first.max or UNBOUNDED)
        return cls(low, high)

    def __contains__(self, batch: int) -> bool:
        return self.low <= batch <= self.high

    def nearest(self, batch: int) -> int:
        """The batch size closest to `batch` that the model takes."""
        return min(max(batch, self.low), self.high)

    def __str__(self) -> str:
        return f"fixed at {self.low}" if self.low == self.high else f"from {self.low} to {self.high}"


@dataclass(frozen=True)
class SyntheticRows:
    """Made-up rows with the API of `Rows`: normal floats, small integers. They exercise a model, no more."""

    signature: Signature
    seed: int
    rows: int = SYNTHETIC_ROWS

    def __len__(self) -> int:
        return self.rows

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the same rows every time, `size` at a time, never with labels."""
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.rows, size):
            count = min(size, self.rows - start)
            yield {tensor.name: _values(tensor, count, rng) for tensor in self.signature.inputs}, None


AnyRows = Rows | SyntheticRows


def _values(tensor: TensorSpec, rows: int, rng: np.random.Generator) -> np.ndarray:
    shape = (rows, *(_size(dimension) for dimension in tensor.shape[1:])) if tensor.shape else ()
    if tensor.dtype == "bfloat16":
        raise InputNotSupported(f"Input {tensor.name} is bfloat16, for which NumPy has no type.")
    dtype = np.dtype(tensor.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind == "u":
        return rng.integers(0, 256, shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)  # 0 and 1 are valid as flags, masks and token ids


def _size(dimension: int | Dimension) -> int:
    if isinstance(dimension, int):
        return dimension
    return min(max(FREE_SIZE, dimension.min or 1), dimension.max or FREE_SIZE)
