"""`.npz` data sets: a zip of `.npy` arrays, each read once, a mebibyte at a time.

Format of `.npy`: NEP 1 and `numpy.lib.format`. Nothing is unpickled; the header is a literal, not code.
"""

import ast
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

import numpy as np

from app.admission.errors import AdmissionError, Broken, NoRows, RowMismatch, Unsafe, UnsupportedDType
from app.admission.zipped import Archive, Member
from app.spec.data import LABELS, ArraySpec, DatasetInfo
from app.spec.signature import FLOATS, DType


class NonFinite(AdmissionError):
    """A float array holds NaN or infinite values."""

    code = "dataset.non_finite"
    remedy = "Remove or replace them, for example with np.nan_to_num."


class FortranOrder(AdmissionError):
    """An array is stored column by column, so its rows cannot be streamed."""

    code = "dataset.fortran_order"
    remedy = "Store np.ascontiguousarray(array)."


MAX_ARRAYS = 1000
MAX_RANK = 32
MAX_HEADER_BYTES = 10_000  # numpy's own max_header_size
SUFFIX = ".npy"
_MAGIC = b"\x93NUMPY"
_DTYPES: dict[str, DType] = {
    "<f8": "float64",
    "<f4": "float32",
    "<f2": "float16",
    "<i8": "int64",
    "<i4": "int32",
    "<i2": "int16",
    "|i1": "int8",
    "<u8": "uint64",
    "<u4": "uint32",
    "<u2": "uint16",
    "|u1": "uint8",
    "|b1": "bool",
}


def read_npz(file: BinaryIO, size: int, *, max_inflated_bytes: int) -> DatasetInfo:
    """Read every array to its end and say what the archive holds.

    Raises `TooManyMembers`, `UnsafeMember`, `RowMismatch` and what `scan_array` raises.
    """
    archive = Archive(file, 0, size, max_inflated_bytes=max_inflated_bytes, colons=True)
    arrays = {name.removesuffix(SUFFIX): member for name, member in archive.members.items()}
    if stray := [name for name in archive.members if not name.endswith(SUFFIX)]:
        raise Broken(f"{stray[0]!r} is not an .npy array")
    if len(arrays) > MAX_ARRAYS:
        raise Broken(f"it holds {len(arrays)} arrays, {MAX_ARRAYS} are allowed")
    if not arrays.keys() - {LABELS}:
        raise Broken("it holds labels only, no input")
    scanned = {name: scan_array(archive, member) for name, member in arrays.items()}
    return DatasetInfo(
        format="npz",
        rows=_rows({name: array.shape[0] for name, array in scanned.items()}),
        arrays={name: ArraySpec(dtype=array.dtype, shape=array.shape) for name, array in scanned.items()},
        label_range=scanned[LABELS].range if LABELS in scanned else None,
    )


def _rows(lengths: dict[str, int]) -> int:
    if len(set(lengths.values())) > 1:
        few, many = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise RowMismatch(f"Array {few!r} has {lengths[few]} rows, {many!r} has {lengths[many]}.")
    return next(iter(lengths.values()))


@dataclass(frozen=True)
class Scanned:
    """One array: its type and shape, and the smallest and largest value if it holds integers."""

    dtype: DType
    shape: tuple[int, ...]
    range: tuple[int, int] | None


def scan_array(archive: Archive, member: Member) -> Scanned:
    """Read the array in `member` to its end; every float in it is finite.

    Raises `Broken`, `Unsafe`, `Inflating`, `UnsupportedDType`, `FortranOrder`, `NoRows`, `NonFinite`.
    """
    name = member.name.removesuffix(SUFFIX)
    chunks = archive.chunks(member)
    header, rest = _header(chunks, name)
    code, shape = _array(header, name)
    dtype = np.dtype(code)
    announced = prod(shape) * dtype.itemsize
    if announced != member.size - header.bytes:
        raise Broken(
            f"array {name!r} of shape {list(shape)} needs {announced} bytes, its data has {member.size - header.bytes}"
        )
    if announced == 0:
        raise NoRows(f"Array {name!r} has shape {list(shape)}.")
    return Scanned(code, shape, _values(_whole_items(rest, chunks, dtype), name, code))


@dataclass(frozen=True)
class _Header:
    literal: object
    bytes: int


def _header(chunks: Iterator[bytes], name: str) -> tuple[_Header, bytes]:
    """The header of an array and the bytes of the first pieces that follow it."""
    data = b""
    need = len(_MAGIC) + 6
    while len(data) < need and (piece := next(chunks, b"")):
        data += piece
    if data[: len(_MAGIC)] != _MAGIC or len(data) < need:
        raise Broken(f"{name!r} is not an .npy array")
    major, minor = data[6], data[7]
    if (major, minor) not in {(1, 0), (2, 0), (3, 0)}:
        raise Broken(f"array {name!r} has version {major}.{minor} of the .npy format")
    prefix, layout = (10, "<H") if major == 1 else (12, "<I")
    (length,) = struct.unpack_from(layout, data, 8)
    if length > MAX_HEADER_BYTES:
        raise Broken(f"array {name!r} has a header of {length} bytes")
    while len(data) < prefix + length and (piece := next(chunks, b"")):
        data += piece
    text = data[prefix : prefix + length]
    try:
        literal = ast.literal_eval(text.decode("utf-8" if major == 3 else "latin-1").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise Broken(f"the header of array {name!r} is not a literal") from error
    return _Header(literal, prefix + length), data[prefix + length :]


def _array(header: _Header, name: str) -> tuple[DType, tuple[int, ...]]:
    match header.literal:
        case {"descr": descr, "fortran_order": bool() as fortran, "shape": tuple() as shape, **rest} if not rest:
            pass
        case _:
            raise Broken(f"the header of array {name!r} does not describe an array")
    if "O" in str(descr):
        raise Unsafe(f"Array {name!r} holds Python objects.")
    dtype = _DTYPES.get(descr) if isinstance(descr, str) else None
    if dtype is None:
        raise UnsupportedDType(f"Array {name!r} has dtype {str(descr)[:40]!r}.")
    if len(shape) > MAX_RANK or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise Broken(f"array {name!r} has an impossible shape")
    if not shape:
        raise Broken(f"array {name!r} is a single value; the first axis must count the rows")
    if fortran and len(shape) > 1:
        raise FortranOrder(f"Array {name!r} is in Fortran order.")
    return dtype, shape


def _whole_items(first: bytes, chunks: Iterator[bytes], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield the values in pieces; an item may be cut by the end of a chunk."""
    pending = first
    for piece in chunks:
        if pending:
            piece = pending + piece  # noqa: PLW2901  # at most 7 bytes and one copy of a chunk
        whole = len(piece) // dtype.itemsize * dtype.itemsize
        yield np.frombuffer(piece, dtype, count=whole // dtype.itemsize)
        pending = piece[whole:]
    if pending:
        yield np.frombuffer(pending, dtype)


def _values(pieces: Iterator[np.ndarray], name: str, dtype: DType) -> tuple[int, int] | None:
    """Smallest and largest integer; floats are only checked."""
    low: int | None = None
    high: int | None = None
    for values in pieces:
        if not values.size:
            continue
        if dtype in FLOATS:
            if not np.isfinite(values).all():
                raise NonFinite(f"Array {name!r} holds NaN or infinite values.")
        elif dtype != "bool":
            least, most = int(values.min()), int(values.max())
            low, high = least if low is None else min(low, least), most if high is None else max(high, most)
    return None if low is None or high is None else (low, high)
