"""HDF5 files, as far as they say what they are: the superblock, and text attributes of the root group.

Only what h5py writes by default is read (superblock 0, object header 1); every address is checked against the file.
Format: HDF5 File Format Specification 3.0, sections II.A, III.E, IV.A.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from app.admission.errors import Broken, TooComplex

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUPERBLOCK_BYTES = 96
MAX_TEXT_BYTES = 48 << 20
MAX_MESSAGES = 4096
_ATTRIBUTE, _CONTINUATION = 0x0C, 0x10
_FIXED, _VARIABLE = 3, 9
_ADDRESSES = struct.Struct("<4Q2Q")
_PREFIX, _MESSAGE, _PLACE = struct.Struct("<BxH2I4x"), struct.Struct("<2HB3x"), struct.Struct("<2Q")
_REFERENCE, _OBJECT = struct.Struct("<IQI"), struct.Struct("<2H4xQ")


def root_header(superblock: bytes, size: int) -> int:
    """Where the root group's object header is, in a file of `size` bytes that begins with these. Raises `Broken`."""
    if len(superblock) < SUPERBLOCK_BYTES or not superblock.startswith(SIGNATURE):
        raise Broken("it does not begin with an HDF5 superblock")
    version, widths = superblock[8], superblock[13:15]
    if version or widths != b"\x08\x08":
        raise Broken(f"its HDF5 superblock is of version {version}; h5py writes 0 by default")
    base, _, end, driver, _, header = _ADDRESSES.unpack_from(superblock, 24)
    if base or driver != 2**64 - 1 or end != size:
        raise Broken(f"its HDF5 superblock announces {end} bytes in one file, there are {size}")
    return int(header)


class Attributes:
    """Text attributes of the root group of a file of `size` bytes. Raises `Broken` for what is not as expected."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Reads the superblock."""
        self._file, self._size = file, size
        self._header = root_header(self._at(0, min(size, SUPERBLOCK_BYTES)), size)

    def text(self, name: str) -> bytes | None:
        """The attribute's bytes; None where there is no such attribute."""
        wanted = name.encode()
        for message in self._messages():
            title, datatype, value = _attribute(message)
            if title == wanted:
                return self._text(datatype, value)
        return None

    def _messages(self) -> Iterator[bytes]:
        """Attribute messages of the root group's header and the blocks that continue it."""
        version, count, _, length = _PREFIX.unpack(self._at(self._header, _PREFIX.size))
        if version != 1 or count > MAX_MESSAGES:
            raise Broken("its root group has an unknown header")
        blocks = [(self._header + _PREFIX.size, length)]
        read = 0
        while blocks:
            start, length = blocks.pop(0)
            block, position = self._at(start, length), 0
            while position + _MESSAGE.size <= length and read < count:
                kind, size, _ = _MESSAGE.unpack_from(block, position)
                body = block[position + _MESSAGE.size : position + _MESSAGE.size + size]
                position += _MESSAGE.size + size
                read += 1
                if len(body) != size:
                    raise Broken("a message of its root group is truncated")
                if kind == _CONTINUATION:
                    where, long = _unpack(_PLACE, body)
                    blocks.append((where, long))
                elif kind == _ATTRIBUTE:
                    yield body

    def _text(self, datatype: bytes, value: bytes) -> bytes:
        kind = datatype[0] & 0x0F if datatype else None
        if kind == _FIXED:
            return value.rstrip(b"\0")
        if kind != _VARIABLE:
            raise Broken("an attribute of it is not text")
        length, heap, index = _unpack(_REFERENCE, value)
        return self._collected(heap, index)[:length]

    def _collected(self, heap: int, index: int) -> bytes:
        """An object of a global heap collection."""
        head = self._at(heap, 16)
        end = heap + int.from_bytes(head[8:], "little")
        position = heap + 16
        if head[:5] != b"GCOL\x01" or end > self._size:
            raise Broken("its heap is damaged")
        while position + _OBJECT.size <= end:
            number, _, size = _OBJECT.unpack(self._at(position, _OBJECT.size))
            if number == index:
                return self._at(position + _OBJECT.size, size)
            if number == 0:
                break
            position += _OBJECT.size + (size + 7) // 8 * 8
        raise Broken("an attribute of it is not in its heap")

    def _at(self, offset: int, length: int) -> bytes:
        if length > MAX_TEXT_BYTES:
            raise TooComplex(f"The model's description has {length} bytes, {MAX_TEXT_BYTES} are allowed.")
        if offset + length > self._size:
            raise Broken("a part of it lies outside of the file")
        self._file.seek(offset)
        return self._file.read(length)


def _attribute(message: bytes) -> tuple[bytes, bytes, bytes]:
    """Name, datatype and value."""
    if len(message) < 8 or message[0] not in {1, 2, 3}:
        raise Broken("an attribute of it is damaged")
    version, sizes = message[0], struct.unpack_from("<3H", message, 2)
    position, parts = 9 if version == 3 else 8, []
    for size in sizes:
        parts.append(message[position : position + size])
        position += (size + 7) // 8 * 8 if version == 1 else size
    return parts[0].rstrip(b"\0"), parts[1], message[position:]


def _unpack(form: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) < form.size:
        raise Broken("a message of its root group is truncated")
    return form.unpack_from(data)
