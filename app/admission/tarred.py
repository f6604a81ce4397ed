"""A tar reader for plain files: `tarfile` reads headers of any size into memory and follows more formats than we need.

Format: POSIX ustar, with the GNU long names and pax records that `tar` and Python's `tarfile` write.
"""

from array import array
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from app.admission.errors import Broken, TooManyMembers
from app.admission.member_names import UnsafeMember, require_safe_name
from app.admission.zipped import MAX_MEMBERS, STORED, Member

BLOCK = 512
MAX_EXTENSION_BYTES = 16 << 10
_FILE, _OLD_FILE, _DIRECTORY, _LONG_NAME, _PAX = b"0", b"\0", b"5", b"L", b"x"
_HARMLESS_RECORDS = frozenset({"mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "path", "size", "comment"})


def read_tar(file: BinaryIO, size: int) -> dict[str, Member]:
    """The plain files of a tar of `size` bytes, by name; their content is at `start` as it is.

    Raises `Broken`, `UnsafeMember`, `TooManyMembers`.
    """
    members: dict[str, Member] = {}
    for member in walk_tar(file, size):
        if member.name in members:
            raise Broken(f"two members are named {member.name!r}")
        members[member.name] = member
    return members


def walk_tar(file: BinaryIO, size: int, *, max_members: int = MAX_MEMBERS, folders: bool = False) -> Iterator[Member]:
    """Yield the plain files in the order of the archive; memory is 8 bytes for each.

    `folders` yields them as well; their names end in "/". That no two have the same name is known after the last.
    Raises `Broken`, `UnsafeMember`, `TooManyMembers`.
    """
    names = array("q")
    position, headers = 0, 0
    said: dict[str, str] = {}
    while block := _block(file, position, size):
        headers += 1
        if headers > max_members:
            raise TooManyMembers(f"The archive has more than {max_members} members.")
        kind, length = block[156:157], _octal(block[124:136])
        position += BLOCK
        if kind in {_LONG_NAME, _PAX}:
            said |= _extension(kind, _exactly(file, position, length))
        else:
            name = said.get("path") or _ustar_name(block)
            length = _decimal(said["size"]) if "size" in said else length
            said = {}
            require_safe_name(name, special=kind not in {_FILE, _OLD_FILE, _DIRECTORY}, dotted=True)
            if kind == _DIRECTORY and length:
                raise Broken(f"the folder {name!r} has content")
            if position + length > size:
                raise Broken("the archive is truncated")
            if kind != _DIRECTORY and not name.endswith("/"):
                names.append(hash(name.removeprefix("./")))
                yield Member(name, STORED, 0, position, length, length)
            elif folders:
                yield Member(f"{name.removesuffix('/')}/", STORED, 0, position, 0, 0)
        position += -(-length // BLOCK) * BLOCK
    if len(np.unique(np.array(names))) < len(names):
        raise Broken("two members have the same name")


def _block(file: BinaryIO, position: int, size: int) -> bytes:
    """The header at `position`; empty at the end of the archive."""
    if position + BLOCK > size:
        raise Broken("the archive has no end")
    file.seek(position)
    block = file.read(BLOCK)
    if not block.strip(b"\0"):
        return b""
    checksum = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    if checksum != _octal(block[148:156]):
        raise Broken("a header of the archive has a wrong checksum")
    return block


def _exactly(file: BinaryIO, position: int, length: int) -> bytes:
    if length > MAX_EXTENSION_BYTES:
        raise Broken("a header of the archive is too long")
    file.seek(position)
    data = file.read(length)
    if len(data) != length:
        raise Broken("the archive is truncated")
    return data


def _extension(kind: bytes, data: bytes) -> dict[str, str]:
    if kind == _LONG_NAME:
        return {"path": _text(data.rstrip(b"\0"))}
    records: dict[str, str] = {}
    while data:
        digits, space, _ = data.partition(b" ")
        length = _decimal(_text(digits[:8]))
        record = data[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not space or not equals or not record.endswith(b"\n") or length > len(data):
            raise Broken("a pax record of the archive is damaged")
        if _text(key) not in _HARMLESS_RECORDS:
            raise UnsafeMember(f"The archive uses the pax record {_text(key)[:40]!r}.")
        records[_text(key)] = _text(value[:-1])
        data = data[length:]
    return records


def _ustar_name(block: bytes) -> str:
    name, prefix = block[:100].split(b"\0")[0], block[345:500].split(b"\0")[0]
    return _text(prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name)


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        if digits:
            raise Broken("a number in the archive is not octal")
        return 0
    return int(digits, 8)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Broken("a number in the archive is not decimal")
    return int(text)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Broken("a name in the archive is not UTF-8") from error
