"""Parquet files whose footers lie, do not end, or point elsewhere."""

import io
import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.hostile.kinds import Hostile, dataset

MALFORMED = frozenset({"dataset.malformed"})
FORMAT = frozenset({"dataset.unsupported_format"})
BOMB = frozenset({"dataset.decompression_bomb"})


def good_parquet() -> bytes:
    """Forty rows of four floats, and labels."""
    return _saved(pa.table({"x": list(np.ones((40, 4), "f4")), "y": np.arange(40)}))


def with_footer(footer: bytes, *, announced: int | None = None, body: bytes = b"") -> bytes:
    """A file with this footer, which claims to have so many bytes."""
    length = struct.pack("<I", len(footer) if announced is None else announced)
    return b"PAR1" + body + footer + length + b"PAR1"


def files() -> Iterator[Hostile]:
    good = good_parquet()
    size = int.from_bytes(good[-8:-4], "little")
    footer = good[-8 - size : -8]
    yield dataset("parquet_untouched", good, {"ok"})
    yield dataset("parquet_no_footer", b"PAR1" + bytes(100), MALFORMED)
    yield dataset("parquet_magic_only", b"PAR1", MALFORMED)
    yield dataset("parquet_encrypted", good[:-4] + b"PARE", FORMAT)
    for announced in (0, 2**31, 2**32 - 1, len(footer) + 4, len(footer) - 1):
        yield dataset(f"parquet_footer_of_{announced}", with_footer(footer, announced=announced), MALFORMED)
    yield dataset("parquet_footer_9_mib", with_footer(bytes(9 << 20)), MALFORMED)
    yield dataset("parquet_without_pages", with_footer(footer), MALFORMED)
    yield dataset("parquet_footer_cut", with_footer(footer[: len(footer) // 2]), MALFORMED)
    yield from _structures()
    yield from _contents()


def _structures() -> Iterator[Hostile]:
    yield dataset("parquet_deep_structs", with_footer(b"\x2c" + b"\x1c" * 1_000_000), MALFORMED)
    yield dataset("parquet_deep_lists", with_footer(b"\xf9" + b"\x19" * 1_000_000), MALFORMED)
    wide = b"\x19\xfc" + _varint(1 << 62)
    yield dataset("parquet_endless_list", with_footer(wide), MALFORMED)
    yield dataset("parquet_wide_list", with_footer(b"\x29\xfc" + _varint(4_000_000) + bytes(4_000_000)), MALFORMED)
    yield dataset("parquet_list_of_nothing", with_footer(b"\x99\xf1" + _varint(1 << 60)), MALFORMED)
    yield dataset("parquet_map_of_nothing", with_footer(b"\x9b" + _varint(1 << 60) + b"\x11"), MALFORMED)
    yield dataset("parquet_long_string", with_footer(b"\x68" + _varint(1 << 62) + b"a"), MALFORMED)
    yield dataset("parquet_long_number", with_footer(b"\x36" + b"\xff" * 40 + b"\0"), MALFORMED)
    yield dataset("parquet_field_twice", with_footer(b"\x36\x02\x06\x06\x02\0"), MALFORMED)
    # A root that announces a child, which announces a child, ...
    nested = b"\x29\xfc" + _varint(5_000) + (b"\x48\x01a\x15\x02\0") * 5_000
    yield dataset("parquet_deep_columns", with_footer(nested + b"\x16\0\x19\x0c\0"), MALFORMED)
    many = b"\x29\x1c\x48\x01a\x15" + _varint(2 * 2**30) + b"\0\x16\0\x19\x0c\0"
    yield dataset("parquet_a_billion_columns", with_footer(many), MALFORMED)


def _contents() -> Iterator[Hostile]:
    yield dataset("parquet_no_rows", _saved(pa.table({"x": np.zeros(0, "f4")})), {"dataset.no_rows"})
    yield dataset("parquet_only_text", _saved(pa.table({"x": ["=cmd|'/C calc'!A0"]})), FORMAT)
    yield dataset("parquet_only_labels", _saved(pa.table({"y": [1, 2]})), FORMAT)
    yield dataset("parquet_text_labels", _saved(pa.table({"x": [1.0], "y": ["a"]})), {"dataset.unsupported_dtype"})
    ragged = pa.table({"x": [[1.0], [1.0, 2.0]]})
    yield dataset("parquet_ragged", _saved(ragged), {"dataset.row_mismatch"})
    yield dataset("parquet_nulls", _saved(pa.table({"x": [1.0, None]})), {"dataset.row_mismatch"})
    yield dataset("parquet_nested", _saved(pa.table({"x": [[[1.0, 2.0]]]})), {"dataset.shape_mismatch"})
    zeros = np.zeros(1 << 26, np.int8)
    yield dataset("parquet_bomb", _saved(pa.table({"a": zeros, "b": zeros, "c": zeros}), row_group_size=1 << 27), BOMB)
    name = pa.table({"<script>\r\n": [1.0]})
    yield dataset("parquet_name_of_two_lines", _saved(name), MALFORMED)
    yield dataset("parquet_rows_lie", _with_a_row_more(good_parquet()), MALFORMED)


def _with_a_row_more(good: bytes) -> bytes:
    """The same file, but its footer says 41 rows where the groups have 40."""
    size = int.from_bytes(good[-8:-4], "little")
    footer = good[-8 - size : -8]
    position = footer.index(b"\x16\x50\x19")  # field 3, 40 as a zigzag number, then the list of groups
    changed = footer[:position] + b"\x16\x52\x19" + footer[position + 3 :]
    return good[: -8 - size] + changed + good[-8:]


def _saved(table: pa.Table, **options: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def _varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
