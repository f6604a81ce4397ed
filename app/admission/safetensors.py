"""The header of a `.safetensors` file: eight bytes of length, JSON, then the tensors without gaps.

Format: https://huggingface.co/docs/safetensors. Two readers of it differ on names that occur twice, on gaps and on
bytes behind the end; all three are refused.
"""

import struct
from math import prod
from typing import Any, BinaryIO

from app.admission.bounded_json import as_dict, as_int, as_list, as_text, loads
from app.admission.errors import Broken, TooComplex, UnsupportedType
from app.admission.stored import ITEM_BYTES, StoredTensor, contiguous
from app.spec.signature import DType

MAX_HEADER_BYTES = 8 << 20
MAX_TENSORS = 20_000
MAX_RANK = 16
METADATA = "__metadata__"
_LENGTH = struct.Struct("<Q")
_DTYPES: dict[str, DType] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(file: BinaryIO, size: int) -> dict[str, StoredTensor]:
    """The tensors of a file of `size` bytes, by name. Raises `Broken`, `TooComplex`, `UnsupportedType`."""
    file.seek(0)
    start = file.read(_LENGTH.size)
    (length,) = _LENGTH.unpack(start) if len(start) == _LENGTH.size else (0,)
    if not 2 <= length <= size - _LENGTH.size:
        raise Broken("its header is longer than the file")
    if length > MAX_HEADER_BYTES:
        raise TooComplex(f"The header has {length} bytes, {MAX_HEADER_BYTES} are allowed.")
    header = _parse(file.read(length))
    metadata = as_dict(header.pop(METADATA, {}))
    if not all(isinstance(text, str) for text in metadata.values()):
        raise Broken("its metadata is not text")
    data = _LENGTH.size + length
    spans: list[tuple[int, int]] = []
    tensors = {name: _tensor(name, as_dict(entry), data, spans) for name, entry in header.items()}
    _require_adjacent(spans, size - data)
    return tensors


def _parse(text: bytes) -> dict[str, Any]:
    if text.count(b"{") > MAX_TENSORS + 2:
        raise TooComplex(f"The file holds more than {MAX_TENSORS} tensors.")
    return as_dict(loads(text, pairs=_unique))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Broken("a name occurs twice in its header")
    return made


def _tensor(name: str, entry: dict[str, Any], data: int, spans: list[tuple[int, int]]) -> StoredTensor:
    if entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise Broken(f"the entry of {name[:80]!r} is damaged")
    dtype = _DTYPES.get(as_text(entry["dtype"]))
    if dtype is None:
        raise UnsupportedType(f"Tensor {name[:80]!r} is of type {entry['dtype'][:20]!r}.", remedy="Save it as float32.")
    shape = tuple(as_int(size) for size in as_list(entry["shape"]))
    offsets = [as_int(offset) for offset in as_list(entry["data_offsets"])]
    if len(shape) > MAX_RANK or len(offsets) != 2 or not all(0 <= n < 2**63 for n in (*shape, *offsets)):
        raise Broken(f"tensor {name[:80]!r} has an impossible shape or place")
    begin, end = offsets
    if end - begin != prod(shape) * ITEM_BYTES[dtype]:
        raise Broken(f"tensor {name[:80]!r} of shape {list(shape)[:8]} does not have {end - begin} bytes")
    spans.append((begin, end))
    return StoredTensor(dtype, shape, contiguous(shape), data + begin)


def _require_adjacent(spans: list[tuple[int, int]], size: int) -> None:
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise Broken("its tensors overlap, or there are bytes between them")
        position = end
    if position != size:
        raise Broken("its tensors end before or behind the file")
