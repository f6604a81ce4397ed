"""Parquet data sets: what the footer says of columns, rows and sizes. No page is read, let alone unpacked.

Format: parquet-format, README.md and parquet.thrift. A column is an array: numbers, lists of numbers (flat, or nested
with a declared shape), or pictures as bytes; columns of text become arrays of tokens where that is declared. Other
text and dates feed no model and are passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

from app.admission.errors import (
    AdmissionError,
    Broken,
    DatasetTooLarge,
    Inflating,
    NoRows,
    RowMismatch,
    Unsafe,
    UnsupportedDataset,
    UnsupportedDType,
)
from app.admission.thrift import ListOf, Reader, Struct
from app.spec.data import LABELS, ArraySpec, DatasetInfo, DatasetSpec
from app.spec.signature import Dimension, DType
from app.spec.tokenize import Tokenize
from app.spec.transforms import Shape


class ShapeMismatch(AdmissionError):
    """The declared shape of a column does not fit its values, or nested lists have none."""

    code = "dataset.shape_mismatch"
    remedy = "Declare the shape of a row in the data set's spec: {'shapes': {'image': [3, 32, 32]}}."


class NoText(AdmissionError):
    """A column that is to be tokenized is missing or holds no text, or an array that this makes exists already."""

    code = "dataset.no_text"
    remedy = "Name string columns of the Parquet file in `tokenize.text`, and unused names in ids, mask and types."


MAGIC, ENCRYPTED = b"PAR1", b"PARE"
MAX_FOOTER_BYTES = 8 << 20
MAX_COLUMNS = 1_000
MAX_DEPTH = 8
MAX_GROUP_BYTES = 1 << 30
"""Largest row group when unpacked: the worker reads one at a time."""

_STATISTICS = Struct({3: int, 5: bytes, 6: bytes})  # null_count, max_value, min_value
_META = Struct(dict.fromkeys((1, 4, 5, 6, 7, 9, 11), int) | {12: _STATISTICS})
_CHUNK = Struct({1: bytes, 3: _META, 8: bool})
_LOGICAL = Struct(dict.fromkeys(range(1, 20), bool))
_ELEMENT = Struct({1: int, 2: int, 3: int, 4: bytes, 5: int, 6: int, 10: _LOGICAL})
_GROUP = Struct({1: ListOf(_CHUNK), 2: int, 3: int})
_FOOTER = Struct({2: ListOf(_ELEMENT), 3: int, 4: ListOf(_GROUP), 8: bool})

_PHYSICAL: dict[int, DType] = {0: "bool", 1: "int32", 2: "int64", 4: "float32", 5: "float64"}
_CONVERTED: dict[int, DType] = {
    11: "uint8",
    12: "uint16",
    13: "uint32",
    14: "uint64",
    15: "int8",
    16: "int16",
    17: "int32",
    18: "int64",
}
_BYTE_ARRAY, _FIXED, _LIST, _MAP, _UTF8 = 6, 7, 3, 1, 0
_LOGICAL_STRING, _LOGICAL_LIST, _LOGICAL_INTEGER, _LOGICAL_FLOAT16 = 1, 3, 10, 15
_REPEATED = 2
_CODECS = frozenset({0, 1, 2, 4, 6, 7})
"""Uncompressed, Snappy, gzip, Brotli, Zstandard, LZ4."""
_ITEM_BYTES = 8


@dataclass(frozen=True)
class Node:
    """A column, a group of columns, or the levels of a list."""

    name: str
    element: dict[int, Any]
    children: tuple["Node", ...]
    first: int
    """Number of its first leaf: the position of its chunk in a row group."""


def read_parquet(file: BinaryIO, size: int, spec: DatasetSpec, *, max_inflated_bytes: int) -> DatasetInfo:
    """Read the footer and say what the file holds; whether the pages keep to it is for the worker to see.

    Raises `Broken`, `Inflating`, `Unsafe`, `UnsupportedDataset`, `NoRows`, `RowMismatch`, `ShapeMismatch`, and where
    text is to be tokenized `NoText`, `DatasetTooLarge`.
    """
    footer, end = _footer(file, size)
    root = _tree(footer.get(2, []))
    rows = footer.get(3, 0)
    groups = footer.get(4, [])
    if not rows:
        raise NoRows("The file has no rows.")
    _require_sound(groups, rows, _leaves(root), end, max_inflated_bytes)
    arrays: dict[str, ArraySpec] = {}
    for node in root.children:
        sample = _sample(node, groups, rows)
        if sample is None:
            continue
        dtype, shape = sample
        if node.name in arrays:
            raise Broken(f"two columns are named {node.name[:80]!r}")
        arrays[node.name] = ArraySpec(dtype=dtype, shape=(rows, *_shaped(node.name, shape, spec)))
    arrays |= _tokenized(root, groups, rows, arrays, spec.tokenize, max_inflated_bytes)
    if not arrays.keys() - {LABELS}:
        raise UnsupportedDataset(
            "The file has no column of numbers or pictures beside the labels.",
            remedy="Name columns like the model's inputs; of text, declare `tokenize` and send tokenizer.json with it.",
        )
    for name in spec.shapes.keys() - arrays.keys():
        raise ShapeMismatch(f"A shape is declared for {name[:80]!r}, which the file has not.", pointer="/shapes")
    labels = next((node for node in root.children if node.name == LABELS), None)
    return DatasetInfo(
        format="parquet",
        rows=rows,
        arrays=arrays,
        label_range=_range(labels, groups) if labels and LABELS in arrays else None,
    )


def _footer(file: BinaryIO, size: int) -> tuple[dict[int, Any], int]:
    """The footer, and where it begins."""
    if size < 2 * len(MAGIC) + 4:
        raise Broken("the file is too short to have a footer")
    file.seek(size - 8)
    end = file.read(8)
    if end[4:] == ENCRYPTED:
        raise UnsupportedDataset("The file is encrypted.")
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or length > size - 12:
        raise Broken("the file does not end with its footer")
    if length > MAX_FOOTER_BYTES:
        raise Broken(f"the footer has {length} bytes, {MAX_FOOTER_BYTES} are allowed")
    file.seek(size - 8 - length)
    footer = Reader(file.read(length)).read(_FOOTER)
    if 8 in footer:
        raise UnsupportedDataset("The file is encrypted.")
    return footer, size - 8 - length


def _tree(elements: list[dict[int, Any]]) -> Node:
    """The columns as a tree; the file lists it depth first."""
    if not elements or len(elements) > MAX_COLUMNS * MAX_DEPTH:
        raise Broken("the file has no columns, or too many")
    rest = iter(elements)
    leaf = 0

    def build(depth: int) -> Node:
        nonlocal leaf
        element = next(rest, None)
        if element is None or depth > MAX_DEPTH:
            raise Broken("the columns are cut off, or nested too deeply")
        count, first = element.get(5, 0), leaf
        if not 0 <= count <= MAX_COLUMNS:
            raise Broken("the file has too many columns")
        if not count:
            leaf += 1
        return Node(_text(element.get(4, b"")), element, tuple(build(depth + 1) for _ in range(count)), first)

    root = build(0)
    if next(rest, None) is not None:
        raise Broken("the list of columns is longer than their tree")
    return root


def _text(name: bytes) -> str:
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Broken("the name of a column is not UTF-8") from error
    if not text or len(text) > 200 or not text.isprintable():
        raise Broken("the name of a column is empty, too long or not printable")
    return text


def _leaves(node: Node) -> int:
    return sum(map(_leaves, node.children)) if node.children else 1


def _require_sound(groups: list[dict[int, Any]], rows: int, leaves: int, end: int, max_inflated_bytes: int) -> None:
    total = 0
    if rows < 0 or sum(group.get(3, -1) for group in groups) != rows:
        raise Broken("the rows of the groups do not add up")
    for group in groups:
        chunks = group.get(1, [])
        if len(chunks) != leaves or group.get(3, -1) < 0:
            raise Broken("a row group has another number of columns than the file")
        unpacked = sum(_unpacked(chunk, end) for chunk in chunks)
        if unpacked > MAX_GROUP_BYTES:
            raise Inflating(f"a row group holds {unpacked} bytes, {MAX_GROUP_BYTES} are allowed; write smaller ones")
        total += unpacked
        if total > max_inflated_bytes:
            raise Inflating(f"it holds more than the {max_inflated_bytes} bytes allowed when unpacked")


def _unpacked(chunk: dict[int, Any], end: int) -> int:
    """Bytes of a column chunk in memory, at least; it must lie before `end`."""
    meta = chunk.get(3)
    if 1 in chunk:
        raise Unsafe("The file refers to another file for its columns.")
    if 8 in chunk:
        raise UnsupportedDataset("The file is encrypted.")
    if meta is None or any(number not in meta for number in (1, 4, 5, 6, 7, 9)):
        raise Broken("a column chunk is not described")
    start = min(meta[9], meta.get(11) or meta[9])
    if start < len(MAGIC) or meta[7] < 0 or meta[6] < 0 or meta[5] < 0 or start + meta[7] > end:
        raise Broken("a column chunk lies outside of the file")
    if meta[4] not in _CODECS:
        raise UnsupportedDataset("The file is compressed with LZO, or by an unknown method.")
    return int(max(meta[6], meta[5] * _ITEM_BYTES if meta[1] in _PHYSICAL else 0))


def _sample(node: Node, groups: list[dict[int, Any]], rows: int) -> tuple[DType, Shape | int] | None:
    """Dtype, and the shape or else the number of values of a column's samples; None if it is nothing for a model."""
    lists = 0
    if _is_picture(node):
        _require_no_nulls(node, groups)
        return "uint8", (3, Dimension(name="height"), Dimension(name="width"))
    leaf = node
    while leaf.children:
        inner = _items(leaf)
        if inner is None:
            return None
        leaf, lists = inner, lists + 1
    dtype = _dtype(leaf)
    if dtype is None:
        if node.name == LABELS:
            raise UnsupportedDType(f"Column {LABELS!r} holds no numbers.")
        return None
    if leaf.element.get(3) == _REPEATED and not lists:
        return None
    _require_no_nulls(node, groups)
    values = sum(group[1][node.first][3][5] for group in groups)
    if values % rows:
        raise RowMismatch(f"The {rows} rows of column {node.name[:80]!r} have {values} values: not all alike.")
    if not lists and values != rows:
        raise RowMismatch(f"Column {node.name[:80]!r} has {values} values for {rows} rows.")
    return dtype, () if not lists else (values // rows,) if lists == 1 else values // rows


def _tokenized(
    root: Node,
    groups: list[dict[int, Any]],
    rows: int,
    arrays: dict[str, ArraySpec],
    declared: Tokenize | None,
    max_inflated_bytes: int,
) -> dict[str, ArraySpec]:
    """The arrays that become of the columns of text."""
    if declared is None:
        return {}
    for position, name in enumerate(declared.text):
        nodes = [node for node in root.children if node.name == name]
        if len(nodes) != 1 or not _is_text(nodes[0]):
            what = "is no text" if nodes else "is not in the file"
            raise NoText(f"Column {name[:80]!r} {what}.", pointer=f"/tokenize/text/{position}")
        _require_no_nulls(nodes[0], groups)
    made = declared.arrays()
    if taken := sorted(made.keys() & arrays.keys()):
        raise NoText(f"{taken[0][:80]!r} is a column of the file already.", pointer=f"/tokenize/{made[taken[0]]}")
    octets = rows * declared.max_length * (8 if declared.dtype == "int64" else 4) * len(made)
    if octets > max_inflated_bytes:
        raise DatasetTooLarge(
            f"{rows} rows of {declared.max_length} tokens need {octets} bytes, {max_inflated_bytes} are allowed.",
            pointer="/tokenize/max_length",
        )
    return {name: ArraySpec(dtype=declared.dtype, shape=(rows, declared.max_length)) for name in made}


def _is_text(node: Node) -> bool:
    logical = node.element.get(10, {})
    marked = node.element.get(6) == _UTF8 or _LOGICAL_STRING in logical
    return not node.children and node.element.get(1) == _BYTE_ARRAY and marked and node.element.get(3) != _REPEATED


def _items(node: Node) -> Node | None:
    """What a list holds: a group with one repeated group (or field) of one thing."""
    is_list = node.element.get(6) == _LIST or _LOGICAL_LIST in node.element.get(10, {})
    if not is_list or len(node.children) != 1 or node.children[0].element.get(3) != _REPEATED:
        return None
    level = node.children[0]
    return level.children[0] if len(level.children) == 1 else None


def _is_picture(node: Node) -> bool:
    """Bytes without a character set, alone or as the `bytes` beside a `path`."""
    if not node.children:
        return node.element.get(1) == _BYTE_ARRAY and 6 not in node.element and not node.element.get(10)
    names = {child.name for child in node.children}
    return names <= {"bytes", "path"} and any(child.name == "bytes" and _is_picture(child) for child in node.children)


def _dtype(leaf: Node) -> DType | None:
    physical, converted, logical = leaf.element.get(1), leaf.element.get(6), leaf.element.get(10, {})
    if physical == _FIXED:
        return "float16" if _LOGICAL_FLOAT16 in logical and leaf.element.get(2) == 2 else None
    if converted is None and not logical:
        return _PHYSICAL.get(physical) if physical is not None else None
    if converted is not None and (not logical or _LOGICAL_INTEGER in logical):
        return _CONVERTED.get(converted) if physical in {1, 2} else None
    return None


def _require_no_nulls(node: Node, groups: list[dict[int, Any]]) -> None:
    position = node.first
    for child in node.children:
        position = child.first if child.name == "bytes" else position
    for group in groups:
        if group[1][position][3].get(12, {}).get(3, 0) > 0:
            raise RowMismatch(f"Column {node.name[:80]!r} has rows without a value.")


def _shaped(name: str, stored: Shape | int, spec: DatasetSpec) -> Shape:
    """The shape of a sample, as declared if it is; its values must be as many."""
    declared = spec.shapes.get(name)
    if declared is None:
        if isinstance(stored, int):
            raise ShapeMismatch(
                f"Column {name[:80]!r} holds nested lists of {stored} values; their shape is not in the file.",
                pointer="/shapes",
            )
        return stored
    count = stored if isinstance(stored, int) else prod(size for size in stored if isinstance(size, int))
    if prod(declared) != count or (not isinstance(stored, int) and len(stored) == 3):
        raise ShapeMismatch(
            f"Column {name[:80]!r} has {count} values in each row, not {list(declared)}.", pointer="/shapes"
        )
    return declared


def _range(labels: Node, groups: list[dict[int, Any]]) -> tuple[int, int] | None:
    """Smallest and largest label, if the writer noted them for every group: its word, until the labels are read."""
    dtype = _dtype(labels)
    if labels.children or dtype is None or "int" not in dtype:
        return None
    bounds = list(_bounds(labels.first, groups, signed=not dtype.startswith("u")))
    if len(bounds) != 2 * len(groups):
        return None
    return min(bounds), max(bounds)


def _bounds(column: int, groups: list[dict[int, Any]], *, signed: bool) -> Iterator[int]:
    for group in groups:
        statistics = group[1][column][3].get(12, {})
        for number in (5, 6):
            if len(statistics.get(number, b"")) in {4, 8}:
                yield int.from_bytes(statistics[number], "little", signed=signed)
