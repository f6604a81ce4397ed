"""Tensors of an ONNX file: do their bytes match their shape, and where are they? The bytes are not read."""

import struct
from dataclasses import dataclass
from math import prod

from app.admission.errors import Broken
from app.admission.protobuf import FIXED32, FIXED64, LENGTH, VARINT, Span, Value, Walker

MAX_RANK = 64
SMALL = 64
"""Integer tensors of at most this many elements are read: they may be the shape of another tensor."""

_VARINTS, _FLOATS, _DOUBLES = frozenset({VARINT, LENGTH}), frozenset({FIXED32, LENGTH}), frozenset({FIXED64, LENGTH})
_INT, _BYTES = frozenset({VARINT}), frozenset({LENGTH})
_DIMS, _TYPE, _SEGMENT, _FLOAT, _INT32, _STRING, _INT64 = 1, 2, 3, 4, 5, 6, 7
_NAME, _RAW, _DOUBLE, _UINT64, _EXTERNAL, _LOCATION = 8, 9, 10, 11, 13, 14
_TENSOR = {
    _DIMS: _VARINTS,
    _TYPE: _INT,
    _SEGMENT: _BYTES,
    _FLOAT: _FLOATS,
    _INT32: _VARINTS,
    _STRING: _BYTES,
    _INT64: _VARINTS,
    _NAME: _BYTES,
    _RAW: _BYTES,
    _DOUBLE: _DOUBLES,
    _UINT64: _VARINTS,
    _EXTERNAL: _BYTES,
    _LOCATION: _INT,
}
_ENTRY = {1: _BYTES, 2: _BYTES}
INT64, STRING = 7, 8
_BITS = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    14: 64,
    15: 128,
    16: 16,
    17: 8,
    18: 8,
    19: 8,
    20: 8,
    21: 4,
    22: 4,
    23: 4,
    24: 8,
    25: 2,
    26: 2,
}
"""Bits of an element by TensorProto.DataType."""
_FIELD = {1: _FLOAT, 14: _FLOAT, 7: _INT64, STRING: _STRING, 11: _DOUBLE, 15: _DOUBLE, 12: _UINT64, 13: _UINT64}
"""The field that holds typed data; all other types use int32_data."""
_DATA = (_FLOAT, _INT32, _STRING, _INT64, _RAW, _DOUBLE, _UINT64)
_COMPLEX = frozenset({14, 15})


@dataclass(frozen=True, slots=True)
class External:
    """Where a tensor's bytes are outside of the ONNX file."""

    tensor: str
    location: str
    offset: int
    length: int | None
    needs: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a TensorProto says about itself; `values` of small int64 tensors."""

    name: str
    type: int
    dims: tuple[int, ...]
    values: tuple[int, ...] | None
    external: External | None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.dims)


def read_tensor(walker: Walker, span: Span) -> Tensor:
    """Check a TensorProto against the size of its data; raises `Broken`."""
    dims: list[int] = []
    data: dict[int, list[Value]] = {}
    single: dict[int, Value] = {}
    entries: list[Value] = []
    for number, value in walker.fields(span, _TENSOR):
        if number == _DIMS:
            dims += walker.integers(value, MAX_RANK)
        elif number in _DATA:
            data.setdefault(number, []).append(value)
        elif number == _EXTERNAL:
            entries.append(value)
        elif number in single or number == _SEGMENT:
            raise Broken("a tensor says the same thing twice, or is a segment")
        else:
            single[number] = value
    name = walker.text(single[_NAME]) if _NAME in single else ""
    type_ = single.get(_TYPE, 0)
    if len(dims) > MAX_RANK or min(dims, default=0) < 0:
        raise Broken(f"tensor {name[:80]!r} has an impossible shape")
    if not isinstance(type_, int) or (type_ not in _BITS and type_ != STRING):
        raise Broken(f"tensor {name[:80]!r} has an unknown type")
    tensor = Tensor(name, type_, tuple(dims), None, None)
    if single.get(_LOCATION, 0) or entries:
        return _external(walker, tensor, entries, data)
    _require_size(walker, tensor, data)
    return Tensor(name, type_, tensor.dims, _small_values(walker, tensor, data), None)


def data_bytes(tensor: Tensor) -> int:
    """Bytes of the tensor's raw data; sub-byte elements are packed."""
    return -(-tensor.elements * _BITS.get(tensor.type, 0) // 8)


def _require_size(walker: Walker, tensor: Tensor, data: dict[int, list[Value]]) -> None:
    if len(data) > 1:
        raise Broken(f"tensor {tensor.name[:80]!r} has its data twice")
    if _RAW in data:
        raw = data[_RAW]
        if len(raw) > 1 or tensor.type == STRING:
            raise Broken(f"tensor {tensor.name[:80]!r} has its data twice")
        length, needed = _length(raw[0]), data_bytes(tensor)
    else:
        field = _FIELD.get(tensor.type, _INT32)
        if data and field not in data:
            raise Broken(f"tensor {tensor.name[:80]!r} has data of another type")
        length = sum(_count(walker, field, value) for value in data.get(field, []))
        needed = _entries(tensor)
    if length != needed:
        unit = "bytes" if _RAW in data else "values"
        raise Broken(f"tensor {tensor.name[:80]!r} of shape {list(tensor.dims)} needs {needed} {unit}, has {length}")


def _entries(tensor: Tensor) -> int:
    """Entries of a typed data field: complex numbers take two, sub-byte elements share one."""
    if tensor.type in _COMPLEX:
        return tensor.elements * 2
    per_entry = max(1, 8 // _BITS.get(tensor.type, 8))
    return -(-tensor.elements // per_entry)


def _count(walker: Walker, field: int, value: Value) -> int:
    if isinstance(value, int) or field == _STRING:
        return 1
    if field in {_FLOAT, _DOUBLE}:
        size = 4 if field == _FLOAT else 8
        if _length(value) % size:
            raise Broken("packed numbers are cut off")
        return _length(value) // size
    return walker.count_varints(value)


def _length(value: Value) -> int:
    if isinstance(value, int):
        raise Broken("a tensor's data is a number")
    return value.end - value.start


def _small_values(walker: Walker, tensor: Tensor, data: dict[int, list[Value]]) -> tuple[int, ...] | None:
    if tensor.type != INT64 or tensor.elements > SMALL:
        return None
    if _RAW in data and isinstance(raw := data[_RAW][0], Span):
        return struct.unpack(f"<{tensor.elements}q", walker.data[raw.start : raw.end])
    return tuple(number for value in data.get(_INT64, []) for number in walker.integers(value, SMALL))


def _external(walker: Walker, tensor: Tensor, entries: list[Value], data: dict[int, list[Value]]) -> Tensor:
    if data or tensor.type == STRING:
        raise Broken(f"tensor {tensor.name[:80]!r} has data inside and outside of the file")
    said: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, Span):
            pair = {number: walker.text(value) for number, value in walker.fields(entry, _ENTRY)}
            if pair.get(1, "") in said:
                raise Broken(f"tensor {tensor.name[:80]!r} says twice where its data is")
            said[pair.get(1, "")] = pair.get(2, "")
    place = External(
        tensor.name,
        said.get("location", ""),
        _number(said.get("offset", "0")),
        _optional(said.get("length")),
        data_bytes(tensor),
    )
    return Tensor(tensor.name, tensor.type, tensor.dims, None, place)


def _optional(text: str | None) -> int | None:
    return None if text is None else _number(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Broken(f"{text[:40]!r} is no offset or length of external data")
    return int(text)
