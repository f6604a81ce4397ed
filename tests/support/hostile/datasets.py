"""Data sets that run code, exhaust memory, or would spoil a calibration in silence."""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.support.hostile.archives import zipped
from tests.support.hostile.kinds import Hostile, dataset
from tests.support.hostile.payloads import Payloads

MALFORMED = frozenset({"dataset.malformed"})
PICKLED = frozenset({"dataset.unsafe_pickle"})
BOMB = frozenset({"dataset.decompression_bomb"})
DTYPE = frozenset({"dataset.unsupported_dtype"})
FORMAT = frozenset({"dataset.unsupported_format"})


def npy(shape: str, descr: str = "'<f4'", *, fortran: str = "False", data: bytes = b"", version: int = 1) -> bytes:
    """An array file with exactly this header."""
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H", len(text)) if version == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def npz(**arrays: bytes) -> bytes:
    """An archive of array files."""
    return zipped((f"{name}.npy", data) for name, data in arrays.items())


def saved(**arrays: Any) -> bytes:
    """What `np.savez` writes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, allow_pickle=True)
    return buffer.getvalue()


def files(payloads: Payloads) -> Iterator[Hostile]:
    yield from _code(payloads)
    yield from _headers()
    yield from _sizes()
    yield from _values()
    yield from _formats(payloads)


def _code(payloads: Payloads) -> Iterator[Hostile]:
    objects = np.array([payloads.call("npz_object")], dtype=object)
    yield dataset("npz_object", saved(x=objects), PICKLED)
    yield dataset("npz_object_labels", saved(x=np.ones((1, 2), "f4"), y=objects), PICKLED)
    record = npy("(1,)", "[('a', '|O')]", data=b"\0" * 8)
    yield dataset("npz_object_in_record", npz(x=record), PICKLED)
    yield dataset("npz_header_code", npz(x=npy(f"({payloads.code('npz_header_code')},)")), MALFORMED)
    yield dataset("npz_descr_code", npz(x=npy("(1,)", payloads.code("npz_descr_code"), data=b"\0" * 4)), MALFORMED)


def _headers() -> Iterator[Hostile]:
    for title, shape in {
        "negative": "(-1, 4)",
        "huge": "(1000000, 1000000)",
        "overflow": f"({1 << 33}, {1 << 33})",
        "bool": "(True,)",
        "float": "(1.0,)",
        "rank": "(" + "1," * 40 + ")",
        "list": "[1]",
        "scalar": "()",
        "digits": "(" + "9" * 5000 + ",)",
    }.items():
        yield dataset(f"npz_shape_{title}", npz(x=npy(shape, data=b"\0" * 4)), MALFORMED)
    yield dataset("npz_header_nested", npz(x=npy("(" * 4000 + ")" * 4000)), MALFORMED)
    yield dataset("npz_header_minus", npz(x=npy("(" + "-" * 9000 + "1,)")), MALFORMED)
    yield dataset("npz_header_long", npz(x=npy(" " * 40_000 + "(1,)", data=b"\0" * 4)), MALFORMED)
    yield dataset("npz_header_lies", npz(x=b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b"{}"), MALFORMED)
    yield dataset("npz_version", npz(x=npy("(1,)", data=b"\0" * 4).replace(b"Y\1", b"Y\7")), MALFORMED)
    yield dataset("npz_no_array", npz(x=b"hello"), MALFORMED)


def _sizes() -> Iterator[Hostile]:
    yield dataset("npz_trailing", npz(x=npy("(1,)", data=b"\0" * 400)), MALFORMED)
    yield dataset("npz_short", npz(x=npy("(9,)", data=b"\0" * 4)), MALFORMED)
    zeros = npy(f"({5 << 24},)") + b"\0" * (5 << 26)
    yield dataset("npz_bomb", zipped([("x.npy", zeros)], zipfile.ZIP_DEFLATED), BOMB)
    parts = [(f"x{i}.npy", npy(f"({1 << 24},)") + b"\0" * (1 << 26)) for i in range(5)]
    yield dataset("npz_bomb_in_parts", zipped(parts, zipfile.ZIP_DEFLATED), BOMB)
    yield dataset("npz_size_lies", _inflates_further(), BOMB | MALFORMED)
    good = saved(x=np.ones((4, 2), "f4"))
    yield dataset("npz_untouched", good, {"ok"})
    yield dataset("npz_checksum", good.replace(np.float32(1).tobytes(), np.float32(2).tobytes(), 1), MALFORMED)


def _inflates_further() -> bytes:
    """A member that declares 80 bytes and inflates to 100 MB."""
    real = npy("(1,)", data=b"\0" * 4)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflate.compress(real + b"\0" * 100_000_000) + deflate.flush()
    name, crc = b"x.npy", zlib.crc32(real)
    common = struct.pack("<HHHHHLLLHH", 20, 0, 8, 0, 33, crc, len(data), len(real), len(name), 0)
    local = b"PK\x03\x04" + common + name + data
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + name
    return local + central + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)


def _values() -> Iterator[Hostile]:
    finite = frozenset({"dataset.non_finite"})
    late = np.zeros((300_000, 4), "f4")
    late[-1, -1] = np.inf
    yield dataset("npz_nan", saved(x=np.full((8, 4), np.nan, "f4")), finite)
    yield dataset("npz_infinite_at_the_end", saved(x=late), finite)
    yield dataset("npz_nan_half", saved(x=np.full((8, 4), np.nan, "f2")), finite)
    yield dataset("npz_nan_labels", saved(x=np.ones((2, 2), "f4"), y=np.array([0.0, np.nan])), finite)
    yield dataset("npz_complex", saved(x=np.ones(3, "c8")), DTYPE)
    yield dataset("npz_text", saved(x=np.array(["=cmd|'/C calc'!A0"])), DTYPE)
    yield dataset("npz_dates", saved(x=np.array(["2020-01-01"], "M8[D]")), DTYPE)
    yield dataset("npz_big_endian", saved(x=np.ones(3, ">f4")), DTYPE)
    yield dataset("npz_void", saved(x=np.zeros(3, "V4")), DTYPE)
    yield dataset("npz_fortran", saved(x=np.asfortranarray(np.ones((3, 4), "f4"))), {"dataset.fortran_order"})
    yield dataset("npz_no_rows", saved(x=np.ones((0, 4), "f4")), {"dataset.no_rows"})
    yield dataset("npz_rows_differ", saved(x=np.ones((3, 4), "f4"), y=np.zeros(2, "i8")), {"dataset.row_mismatch"})
    yield dataset("npz_only_labels", saved(y=np.zeros(2, "i8")), MALFORMED)
    stray = zipped([("x.npy", npy("(1,)", data=b"\0" * 4)), ("run.sh", b"#!/bin/sh")])
    yield dataset("npz_stray_member", stray, MALFORMED)


def _formats(payloads: Payloads) -> Iterator[Hostile]:
    yield dataset("npy_alone", npy("(1,)", data=b"\0" * 4), FORMAT)
    yield dataset("npy_object_alone", pickle.dumps(payloads.call("npy_object_alone")), FORMAT)
    yield dataset("png", b"\x89PNG\r\n\x1a\n" + b"\0" * 64, FORMAT)
    yield dataset("text", b"a,b,c\n1,2,3\n", FORMAT)
    yield dataset("zip_of_text", zipped([("readme.txt", b"hello")]), FORMAT)
    yield dataset("gzip", b"\x1f\x8b\x08" + b"\0" * 64, FORMAT)
    yield dataset("empty_dataset", b"", {"upload.empty"})
    yield dataset("npz_dotted", zipped([("./x.npy", npy("(1,)", data=b"\0" * 4))]), {"archive.unsafe_member"})
    yield dataset("npz_slip", zipped([("../x.npy", npy("(1,)", data=b"\0" * 4))]), {"archive.unsafe_member"})
