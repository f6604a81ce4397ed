"""A zip reader that accepts only archives on which every other reader agrees.

`zipfile` loads a central directory of any size and trusts it; loaders written in other languages trust the local
headers. Here the directory is bounded before it is read, both records of a member must agree, members may not
overlap, hide between others or reach outside of the file. Layout: PKWARE APPNOTE 6.3.10.
"""

import stat
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from app.admission.errors import Broken, Inflating, TooManyMembers
from app.admission.member_names import require_safe_name

MAX_MEMBERS = 20_000
DIRECTORY_BYTES_EACH = 420
"""The directory may be as long as this for each member that is allowed: 8 MiB for 20,000."""
STORED, DEFLATED = 0, 8
BOMB_BYTES, BOMB_RATIO = 256 << 20, 25
"""An archive is a bomb if its members inflate to more than this and by more than this factor (deflate reaches 1032)."""
CHUNK_BYTES = 1 << 20

_END, _END64, _LOCATOR64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_CENTRAL, _LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
_ENCRYPTED, _DESCRIPTOR, _STRONG, _MASKED = 0x1, 0x8, 0x40, 0x2000
_DESCRIPTOR_BYTES = 24
"""The longest data descriptor: signature, CRC and two 64-bit sizes. No other gap between members is allowed."""
_LONGEST_ENTRY = _CENTRAL.size + 3 * 0xFFFF
_UNIX, _ZIP64 = 3, 1
_FULL32 = 0xFFFFFFFF
_FULL = (0xFFFF, _FULL32, _FULL32)
"""What stands in the 32-bit record for a count, size and offset that only fit the 64-bit record."""


@dataclass(frozen=True, slots=True)
class Member:
    """A plain file in the archive: where its bytes are (`start`, `packed`) and how long they are inflated (`size`)."""

    name: str
    method: int
    crc: int
    start: int
    packed: int
    size: int

    @property
    def stored(self) -> bool:
        """Not compressed: its bytes are in the archive as they are."""
        return self.method == STORED


class Directory:
    """A zip in the bytes `[begin, end)` of a seekable file, whose members are checked while they are walked.

    Opening it checks the end of the archive only. `dotted` allows names that begin with "./", which loaders of other
    formats than a bundle do not take for the name without; `colons` allows names such as "input:0", which nothing may
    be unpacked under. Memory is 24 bytes for each member.
    """

    def __init__(
        self,
        file: BinaryIO,
        begin: int,
        end: int,
        *,
        max_inflated_bytes: int,
        max_members: int = MAX_MEMBERS,
        dotted: bool = False,
        colons: bool = False,
    ) -> None:
        self._file = file
        self._dotted = dotted
        self._colons = colons
        self._begin = begin
        self._max_inflated_bytes = max_inflated_bytes
        self._count, self._size, self._limit = self._end_record(end)
        if self._count > max_members:
            raise TooManyMembers(f"The archive has {self._count} members, {max_members} are allowed.")
        if self._size > max_members * DIRECTORY_BYTES_EACH:
            raise Broken("the directory of the archive is larger than its members explain")

    def walk(self, *, folders: bool = False) -> Iterator[Member]:
        """Yield the plain files in the order of the directory; only after the last one they are known to be sound.

        `folders` yields them as well; their names end in "/".

        Raises `Broken`, `UnsafeMember`, `Inflating`.
        """
        spans, names = array("q"), array("q")
        total, inflated, packed = 0, 0, 0
        for record, raw, extra in self._records():
            member, begin = self._member(record, raw, extra)
            spans.extend((begin, member.start + member.packed))
            names.append(hash(member.name.removeprefix("./") if self._dotted else member.name))
            total += member.size
            if total > self._max_inflated_bytes:
                raise Inflating(f"it holds more than the {self._max_inflated_bytes} bytes allowed when inflated")
            if not member.stored:
                inflated, packed = inflated + member.size, packed + member.packed
            if folders or not member.name.endswith("/"):
                yield member
        if inflated > BOMB_BYTES and inflated > packed * BOMB_RATIO:
            raise Inflating(f"{packed} compressed bytes would inflate to {inflated}")
        if len(np.unique(np.array(names))) < len(names):
            raise Broken("two members have the same name")
        self._require_no_overlap(np.array(spans).reshape(-1, 2))

    def chunks(self, member: Member) -> Iterator[bytes]:
        """Yield the content in pieces of at most 1 MiB; its length and CRC are checked, so is its end."""
        done, crc = 0, 0
        for piece in self._stored(member) if member.stored else self._inflated(member):
            done += len(piece)
            if done > member.size:
                raise Inflating(f"{member.name!r} is longer than it declares")
            crc = zlib.crc32(piece, crc)
            yield piece
        if done != member.size:
            raise Broken(f"{member.name!r} is shorter than it declares")
        if crc != member.crc:
            raise Broken(f"the checksum of {member.name!r} is wrong")

    def read(self, member: Member, limit: int) -> bytes:
        """The content of a small member; raises `Broken` if it is longer than `limit`."""
        if member.size > limit:
            raise Broken(f"{member.name!r} has {member.size} bytes, {limit} are allowed")
        return b"".join(self.chunks(member))

    def position(self, member: Member) -> int:
        """Where a stored member's content begins in the file."""
        return self._begin + member.start

    def _stored(self, member: Member) -> Iterator[bytes]:
        position, end = member.start, member.start + member.packed
        while position < end:
            piece = self._at(position, min(CHUNK_BYTES, end - position))
            position += len(piece)
            yield piece

    def _inflated(self, member: Member) -> Iterator[bytes]:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        for packed in self._stored(member):
            pending = packed
            while pending and not inflate.eof:
                try:
                    yield inflate.decompress(pending, CHUNK_BYTES)
                except zlib.error as error:
                    raise Broken(f"{member.name!r} is not deflated data") from error
                pending = inflate.unconsumed_tail
            if pending or inflate.unused_data:
                raise Broken(f"{member.name!r} has bytes after its end")
        if not inflate.eof:
            yield from self._tail(inflate, member)

    def _tail(self, inflate: "zlib._Decompress", member: Member) -> Iterator[bytes]:
        while piece := inflate.decompress(b"", CHUNK_BYTES):
            yield piece
        if not inflate.eof:
            raise Broken(f"{member.name!r} is truncated")

    def _at(self, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0:
            raise Broken("a record of the archive lies outside of it")
        self._file.seek(self._begin + offset)
        data = self._file.read(size)
        if len(data) != size:
            raise Broken("the archive is truncated")
        return data

    def _end_record(self, end: int) -> tuple[int, int, int]:
        """Number of members, and size and offset of the central directory, which the end record must follow."""
        last = end - self._begin - _END.size
        signature, disk, first_disk, here, count, size, offset, comment = _END.unpack(self._at(last, _END.size))
        if signature != b"PK\x05\x06" or comment:
            raise Broken("the archive does not end with its directory")
        if last >= _LOCATOR64.size and self._at(last - _LOCATOR64.size, 4) == b"PK\x06\x07":
            wide = self._end_record64(last)
            if any(n not in {w, full} for n, w, full in zip((count, size, offset), wide, _FULL, strict=True)):
                raise Broken("the two directory records of the archive contradict each other")
            return wide
        if disk or first_disk or here != count or offset + size != last:
            raise Broken("the directory of the archive is not where it is announced")
        return count, size, offset

    def _end_record64(self, last: int) -> tuple[int, int, int]:
        where = last - _LOCATOR64.size
        signature, disk, position, disks = _LOCATOR64.unpack(self._at(where, _LOCATOR64.size))
        if signature != b"PK\x06\x07" or disk or disks != 1 or position + _END64.size != where:
            raise Broken("the 64-bit directory of the archive is not where it is announced")
        record = _END64.unpack(self._at(position, _END64.size))
        signature, length, _, _, disk, first_disk, here, count, size, offset = record
        if signature != b"PK\x06\x06" or length != _END64.size - 12 or disk or first_disk or here != count:
            raise Broken("the 64-bit directory of the archive is damaged")
        if offset + size != position:
            raise Broken("the directory of the archive is not where it is announced")
        return count, size, offset

    def _records(self) -> Iterator[tuple[tuple[int, ...], bytes, bytes]]:
        """Yield each entry of the directory: its numbers, its name and its extra field; read piece by piece."""
        held, position, read = b"", 0, 0
        for _ in range(self._count):
            if len(held) - position < _LONGEST_ENTRY and read < self._size:
                piece = self._at(self._limit + read, min(CHUNK_BYTES, self._size - read))
                held, position, read = held[position:] + piece, 0, read + len(piece)
            if position + _CENTRAL.size > len(held):
                raise Broken("the directory of the archive is truncated")
            record = _CENTRAL.unpack_from(held, position)
            name = position + _CENTRAL.size
            extra = name + record[10]
            comment = extra + record[11]
            position = comment + record[12]
            if record[0] != b"PK\x01\x02" or position > len(held):
                raise Broken("the directory of the archive is damaged")
            yield record, held[name:extra], held[extra:comment]
        if position != len(held) or read != self._size:
            raise Broken("the directory of the archive is longer than its members")

    def _member(self, record: tuple[int, ...], raw: bytes, extra: bytes) -> tuple[Member, int]:
        flags, method, crc = record[3], record[4], record[7]
        packed, size, offset = _with_zip64(extra, size=record[9], packed=record[8], offset=record[16])
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Broken("a member's name is not UTF-8") from error
        kind = stat.S_IFMT(record[15] >> 16) if record[1] >> 8 == _UNIX else 0
        special = kind not in {0, stat.S_IFREG, stat.S_IFDIR}
        require_safe_name(name, special=special, dotted=self._dotted, colons=self._colons)
        if flags & (_ENCRYPTED | _STRONG | _MASKED) or record[13] or method not in {STORED, DEFLATED}:
            raise Broken(f"{name!r} is encrypted, split, or packed with something other than deflate")
        if (method == STORED and packed != size) or (name.endswith("/") and size):
            raise Broken(f"the sizes of {name!r} contradict each other")
        start = self._local(raw, offset, flags=flags, method=method, crc=crc, packed=packed, size=size)
        return Member(name, method, crc, start, packed, size), offset

    def _local(self, raw: bytes, offset: int, *, flags: int, method: int, crc: int, packed: int, size: int) -> int:
        """Where the content starts, after a local header that must say what the directory says."""
        record = _LOCAL.unpack(self._at(offset, _LOCAL.size))
        signature, _, local_flags, local_method, _, _, local_crc, local_packed, local_size, name, extra = record
        rest = self._at(offset + _LOCAL.size, name + extra)
        if signature != b"PK\x03\x04" or rest[:name] != raw or local_flags != flags or local_method != method:
            raise Broken("a member's header contradicts the directory")
        local_packed, local_size, _ = _with_zip64(rest[name:], size=local_size, packed=local_packed, offset=0)
        announced = (local_crc, local_packed, local_size)
        if announced != (crc, packed, size) and not (flags & _DESCRIPTOR and announced == (0, 0, 0)):
            raise Broken("a member's header contradicts the directory")
        return offset + _LOCAL.size + int(name) + int(extra)

    def _require_no_overlap(self, spans: np.ndarray) -> None:
        """`spans`: begin and end of each member, `[members, 2]`, int64."""
        spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
        ends = np.concatenate([[0], spans[:, 1]])
        gaps = spans[:, 0] - ends[:-1]
        if (gaps < 0).any() or (gaps > _DESCRIPTOR_BYTES).any() or (gaps[:1] > 0).any():
            raise Broken("members overlap, or there are bytes between them")
        if not ends[-1] <= self._limit <= ends[-1] + _DESCRIPTOR_BYTES:
            raise Broken("a member reaches into the directory, or there are bytes before it")


class Archive(Directory):
    """A zip that is checked when it is opened; `members` are the plain files, by name.

    Raises `Broken`, `TooManyMembers`, `UnsafeMember`, `Inflating`.
    """

    def __init__(
        self,
        file: BinaryIO,
        begin: int,
        end: int,
        *,
        max_inflated_bytes: int,
        dotted: bool = False,
        colons: bool = False,
    ) -> None:
        super().__init__(file, begin, end, max_inflated_bytes=max_inflated_bytes, dotted=dotted, colons=colons)
        self.members: dict[str, Member] = {}
        for member in self.walk():
            if member.name in self.members:
                raise Broken(f"two members are named {member.name!r}")
            self.members[member.name] = member

    def inner(self, member: Member) -> "Archive":
        """The zip in a stored member; raises what opening raises."""
        if not member.stored:
            raise Inflating(f"{member.name!r} is an archive and compressed again")
        begin = self._begin + member.start
        return Archive(self._file, begin, begin + member.size, max_inflated_bytes=member.size)


def _with_zip64(extra: bytes, *, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Packed size, size and offset, with those that did not fit 32 bits taken from the 64-bit extra field."""
    position = 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, position)
        field = extra[position + 4 : position + 4 + length]
        if tag == _ZIP64:
            if len(field) != length or length % 8 not in {0, 4}:
                raise Broken("a 64-bit extra field is damaged")
            wide = iter(struct.unpack(f"<{length // 8}Q", field[: length // 8 * 8]))
            size = next(wide, size) if size == _FULL32 else size
            packed = next(wide, packed) if packed == _FULL32 else packed
            offset = next(wide, offset) if offset == _FULL32 else offset
            break
        position += 4 + length
    return packed, size, offset
