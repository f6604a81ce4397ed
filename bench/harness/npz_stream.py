"""An `.npz` of any size that is made while it is sent: the client holds one block of random numbers."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 4096
COLUMNS = 1024
BLOCK_BYTES = BLOCK_ROWS * COLUMNS * 4
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
MEMBER = "x.npy"


@dataclass(frozen=True)
class NpzStream:
    """One stored float32 array `x` [rows, 1024]: a block of 16 MiB over and over. Less than 4 GiB."""

    head: bytes
    block: bytes
    blocks: int
    tail: bytes

    @classmethod
    def of(cls, size: int, seed: int = 0) -> "NpzStream":
        """About `size` bytes, in whole blocks."""
        blocks = max(1, size // BLOCK_BYTES)
        block = np.random.default_rng(seed).standard_normal((BLOCK_ROWS, COLUMNS), np.float32).tobytes()
        header = io.BytesIO()
        shape = {"descr": "<f4", "fortran_order": False, "shape": (blocks * BLOCK_ROWS, COLUMNS)}
        np.lib.format.write_array_header_1_0(header, shape)
        crc = zlib.crc32(header.getvalue())
        for _ in range(blocks):
            crc = zlib.crc32(block, crc)
        member = zipfile.ZipInfo(MEMBER)
        member.CRC = crc
        member.file_size = member.compress_size = len(header.getvalue()) + blocks * BLOCK_BYTES
        local = member.FileHeader(zip64=False)
        tail = _directory(member, len(local) + member.file_size)
        return cls(local + header.getvalue(), block, blocks, tail)

    def __len__(self) -> int:
        return len(self.head) + self.blocks * BLOCK_BYTES + len(self.tail)

    def __iter__(self) -> Iterator[memoryview]:
        """The file in pieces of a mebibyte or less."""
        yield memoryview(self.head)
        view = memoryview(self.block)
        for _ in range(self.blocks):
            for start in range(0, BLOCK_BYTES, 1 << 20):
                yield view[start : start + (1 << 20)]
        yield memoryview(self.tail)

    def parts(self, size: int) -> Iterator[Iterator[memoryview]]:
        """The same bytes as consecutive runs of `size` bytes; each must be used up before the next is taken."""
        pieces, left, rest = iter(self), len(self), memoryview(b"")

        def run() -> Iterator[memoryview]:
            nonlocal left, rest
            wanted = min(size, left)
            left -= wanted
            while wanted:
                rest = rest or next(pieces)
                piece, rest = rest[:wanted], rest[wanted:]
                wanted -= len(piece)
                yield piece

        while left:
            yield run()


def _directory(member: zipfile.ZipInfo, offset: int) -> bytes:
    """The central directory of a zip with this one member, which starts at 0 (APPNOTE.TXT, 4.3.12 and 4.3.16)."""
    name = member.filename.encode()
    time, day = 0, (1 << 5) | 1
    entry = CENTRAL.pack(
        b"PK\x01\x02",
        20,
        20,
        0,
        zipfile.ZIP_STORED,
        time,
        day,
        member.CRC,
        member.compress_size,
        member.file_size,
        len(name),
        0,
        0,
        0,
        0,
        0,
        0,
    )
    return entry + name + END.pack(b"PK\x05\x06", 0, 0, 1, 1, len(entry) + len(name), offset, 0)
