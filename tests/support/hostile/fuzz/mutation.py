"""Damage for files: bytes, numbers and pieces, and checksums that hold again after it."""

import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence

MOST_BYTES = 256 << 10
"""No file grows beyond this: what is large is the corpus's concern."""
MOST_CHANGES = 8
LONGEST_PIECE = 64
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63)
FORMS = ("<B", "<H", "<I", "<Q", ">H", ">I", ">Q")
TOKENS = (
    *(b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"ustar", b"../", b"\0", b"/", b"\xff\xfe"),
    *(b"{", b"}", b"[" * 40, b'"a":', b'"', b",", b"NaN", b"1e999", b"-1", b"null", b'{"a":' * 20, b"\\ud800"),
    *(b"cos\nsystem\n", b"\x80\x02c", b"(", b"t", b"R", b".", b"b", b"Q", b"\x95", b"q\xff", b"h\x00"),
    *(b"\xff\xd8", b"\xff\xc0\x00\x11", b"\xff\xe1\x00\x08Exif\0\0", b"\x93NUMPY\x01\x00", b"GCOL\x01", b"\x0c\x00"),
    *(b"**", b"s0", b"Mod(", b"floor(", b"(" * 40, b"9" * 40, b"\x15\x00", b"\x19\xfc", b"\xff" * 9 + b"\x01"),
)
_DIGITS = re.compile(rb"[0-9]+")

Change = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def _flip(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    data[_place(chance, data)] ^= 1 << chance.randrange(8)


def _number(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    form = chance.choice(FORMS)
    size = struct.calcsize(form)
    value = (chance.choice(NUMBERS) + chance.choice((-1, 0, 0, 1))) & ((1 << 8 * size) - 1)
    at = _place(chance, data)
    data[at : at + size] = struct.pack(form, value)


def _digits(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Another number where one is written out, as in JSON, tar and the headers of arrays."""
    digits = list(_DIGITS.finditer(data))
    if digits:
        spot = chance.choice(digits)
        data[spot.start() : spot.end()] = str(chance.choice(NUMBERS)).encode()


def _cut(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    del data[at : at + chance.randint(1, LONGEST_PIECE)]


def _truncate(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_place(chance, data) :]


def _repeat(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    piece = bytes(data[at : at + chance.randint(1, LONGEST_PIECE)])
    data[at:at] = piece * chance.choice((1, 1, 2, 16, 1000))


def _token(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at, token = _place(chance, data), chance.choice(TOKENS)
    data[at : at + len(token) * chance.randrange(2)] = token


def _splice(chance: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """A piece of another file, in the place of as much of this one."""
    other = chance.choice(others)
    begin, at = chance.randrange(len(other) or 1), _place(chance, data)
    piece = other[begin : begin + chance.randint(1, 16 * LONGEST_PIECE)]
    data[at : at + len(piece)] = piece


def _place(chance: random.Random, data: bytearray) -> int:
    """Somewhere; as often near the start or the end, where headers and directories are."""
    near = min(len(data), 4 * LONGEST_PIECE)
    low, high = chance.choice(((0, len(data)), (0, near), (len(data) - near, len(data))))
    return chance.randrange(low, high)


CHANGES: tuple[Change, ...] = (_flip, _flip, _number, _number, _digits, _cut, _truncate, _repeat, _token, _splice)


def mutated(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A damaged copy; every second time, checksums are mended."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, MOST_CHANGES)):
        chance.choice(CHANGES)(chance, changed, others)
        if not changed:
            return b""
    del changed[MOST_BYTES:]
    if chance.random() < 0.5:
        mend(changed)
    return bytes(changed)


def mend(data: bytearray) -> None:
    """Make checksums and sizes fit again, as far as the file still has its form: zip, tar, PNG."""
    if data.startswith(b"PK"):
        _mend_zip(data)
    elif data[257:262] == b"ustar":
        _mend_tar(data)
    elif data.startswith(b"\x89PNG") and len(data) > 33:
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))


def _mend_zip(data: bytearray) -> None:
    """CRCs of stored members in both of their records, and the place of the directory in the record at the end."""
    end, first = data.rfind(b"PK\x05\x06"), data.find(b"PK\x01\x02")
    if end < 0 or first < 0 or end + 22 > len(data):
        return
    struct.pack_into("<II", data, end + 12, max(0, end - first), first)
    at = first
    while data[at : at + 4] == b"PK\x01\x02" and at + 46 <= end:
        method, packed = struct.unpack_from("<H8xI", data, at + 10)
        name, extra, comment, offset = struct.unpack_from("<HHH8xI", data, at + 28)
        if method == 0 and offset + 30 <= first:
            start = offset + 30 + sum(struct.unpack_from("<HH", data, offset + 26))
            for record in (at + 16, offset + 14):
                struct.pack_into("<I", data, record, zlib.crc32(data[start : start + packed]))
        at += 46 + name + extra + comment


def _mend_tar(data: bytearray) -> None:
    """The checksum of every block that could be a header."""
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
