"""Width, height and orientation of a picture, from its first bytes; no pixel is decoded.

Formats: PNG (ISO/IEC 15948, 11.2.2) and JPEG (ITU-T T.81, B.2; Exif 2.3 for the orientation).
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

MAX_PIXELS = 1 << 25
"""33 megapixels: 100 MB as RGB bytes, 400 MB as the floats that preprocessing works on."""
MAX_SEGMENTS = 1_000
MAX_EXIF_BYTES = 1 << 20

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTHS: dict[int, frozenset[int]] = {
    0: frozenset({1, 2, 4, 8}),
    2: frozenset({8}),
    3: frozenset({1, 2, 4, 8}),
    4: frozenset({8}),
    6: frozenset({8}),
}
"""Bits per channel by colour type. Decoders disagree on how sixteen bits become eight, so they are left out."""
_IHDR = struct.Struct(">4s2L5BL")
_SOI, _SOS, _EOI, _EXIF_SEGMENT = 0xD8, 0xDA, 0xD9, 0xE1
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive, Huffman-coded. Lossless, hierarchical and arithmetic frames are rare."""
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_ORIENTATION = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
"""TIFF 6.0, section 2: BYTE, SHORT, LONG and the signed ones. Writers take any of them, and decoders read any."""
TRANSPOSED = frozenset({5, 6, 7, 8})
"""Exif orientations that exchange width and height."""

Read = Callable[[int], bytes]
"""Gives the next so many bytes of a file, fewer at its end."""


class NotAnImage(Exception):
    """The bytes are no picture that is accepted; the text completes "it is"."""


@dataclass(frozen=True)
class ImageHead:
    """What the header of a picture says. Width and height are those of the stored pixels, before they are turned."""

    width: int
    height: int
    orientation: int = 1
    """As Exif numbers them: 1 is upright."""

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width of the picture when it is turned upright."""
        return (self.width, self.height) if self.orientation in TRANSPOSED else (self.height, self.width)


def read_head(read: Read, skip: Callable[[int], None]) -> ImageHead:
    """Read the header of a PNG or JPEG file; raises `NotAnImage`."""
    start = read(2)
    if start == _PNG[:2]:
        return _png(start + read(len(_PNG) - 2), read, skip)
    if start == bytes((0xFF, _SOI)):
        return _jpeg(read, skip)
    raise NotAnImage("empty" if not start else "neither a PNG nor a JPEG file")


def head_of(content: bytes) -> ImageHead:
    """The header of a picture in memory; raises `NotAnImage`."""
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        piece = content[position : position + size]
        position += len(piece)
        return piece

    def skip(size: int) -> None:
        nonlocal position
        position += size

    return read_head(read, skip)


def _png(signature: bytes, read: Read, skip: Callable[[int], None]) -> ImageHead:
    length, header = read(4), read(_IHDR.size)
    if signature != _PNG or len(header) != _IHDR.size or length != b"\0\0\0\x0d":
        raise NotAnImage("a damaged PNG file")
    kind, width, height, depth, colour, compression, filtering, interlace, crc = _IHDR.unpack(header)
    if kind != b"IHDR" or crc != zlib.crc32(header[:-4]) or compression or filtering or interlace > 1:
        raise NotAnImage("a damaged PNG file")
    if colour not in _PNG_DEPTHS or not 0 < width < 1 << 31 or not 0 < height < 1 << 31:
        raise NotAnImage("a damaged PNG file")
    if depth not in _PNG_DEPTHS[colour]:
        raise NotAnImage(f"a PNG file of {depth} bits per channel")
    return ImageHead(width, height, _png_orientation(read, skip))


def _png_orientation(read: Read, skip: Callable[[int], None]) -> int:
    """The orientation in the Exif chunk that may stand before the pixels (PNG 3rd edition, 11.3.4.5)."""
    for _ in range(MAX_SEGMENTS):
        length, kind = int.from_bytes(read(4), "big"), read(4)
        if kind in {b"", b"IDAT", b"IEND"}:
            break
        if kind == b"eXIf" and length <= MAX_EXIF_BYTES:
            return _tiff_orientation(read(length)) or 1
        skip(length + 4)  # and its checksum
    return 1


def _jpeg(read: Read, skip: Callable[[int], None]) -> ImageHead:
    orientation = 1
    for _ in range(MAX_SEGMENTS):
        marker = _marker(read)
        if marker in _STANDALONE:
            continue
        if marker in {_SOS, _EOI}:
            break
        size = int.from_bytes(read(2), "big") - 2
        if size < 0:
            break
        if marker in _OTHER_FRAMES:
            raise NotAnImage("a JPEG file of a rare kind (lossless, hierarchical or arithmetic)")
        if marker in _FRAMES:
            return _frame(read(size), orientation)
        if marker == _EXIF_SEGMENT:
            orientation = _orientation(read(size)) or orientation
        else:
            skip(size)
    raise NotAnImage("a JPEG file without a frame header")


def _marker(read: Read) -> int:
    """The next marker's code; any number of 0xFF may stand before it."""
    if read(1) != b"\xff":
        raise NotAnImage("a damaged JPEG file")
    for _ in range(MAX_SEGMENTS):
        code = read(1)
        if code != b"\xff":
            return code[0] if code else _EOI
    raise NotAnImage("a damaged JPEG file")


def _frame(data: bytes, orientation: int) -> ImageHead:
    if len(data) < 6:
        raise NotAnImage("a damaged JPEG file")
    depth, height, width, channels = struct.unpack_from(">BHHB", data)
    if depth != 8:
        raise NotAnImage(f"a JPEG file of {depth} bits per channel")
    if not width or not height or channels not in {1, 3, 4} or len(data) != 6 + 3 * channels:
        raise NotAnImage("a damaged JPEG file")
    return ImageHead(width, height, orientation)


def _orientation(segment: bytes) -> int | None:
    """The orientation in an Exif segment; None if it is another segment, or says nothing sensible."""
    return _tiff_orientation(segment[6:]) if segment[:6] == b"Exif\0\0" else None


def _tiff_orientation(tiff: bytes) -> int | None:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return None
    (first,) = struct.unpack_from(f"{order}L", tiff, 4)
    if first + 2 > len(tiff):
        return None
    (entries,) = struct.unpack_from(f"{order}H", tiff, first)
    for entry in range(first + 2, min(first + 2 + 12 * entries, len(tiff) - 11), 12):
        tag, kind, count = struct.unpack_from(f"{order}HHL", tiff, entry)
        if tag == _ORIENTATION:
            value = struct.unpack_from(f"{order}{_INTEGERS.get(kind, 'H')}", tiff, entry + 8)[0]
            return value if kind in _INTEGERS and count == 1 and 1 <= value <= 8 else None
    return None
