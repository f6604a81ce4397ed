"""A tensor in a file that was read without loading it: what it is and where its bytes are."""

from dataclasses import dataclass

from app.spec.signature import DType

ITEM_BYTES: dict[DType, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """`start`: where its first element is in the file, in bytes. `strides` count elements, little-endian."""

    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor without gaps, last axis fastest."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(1, size)
    return tuple(reversed(strides))
