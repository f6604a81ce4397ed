"""Files that appear whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.storage.digest import require_same, write_hashed

_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


@contextmanager
def temporary_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a new file in `folder`, gone on exit unless it was renamed. What was written is not yet on the disk."""
    path = folder / f".{secrets.token_hex(16)}.partial"
    try:
        with path.open("xb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def flush(file: BinaryIO) -> None:
    """Bring the file's content to the disk, so that a rename never outlives it."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(path: Path, final: Path) -> None:
    """Give `path` its final name, in the same file system. Raises FileExistsError; nothing is ever replaced.

    The name is on the disk only after `flush_folder`.

    A hard link is the one portable step that is both atomic and refuses an existing name. Where the file system has
    none (exFAT, some network shares), a check and a rename leave a gap in which a concurrent writer is replaced; the
    database decides who wins, and both wrote the same key's content.
    """
    try:
        os.link(path, final)
    except OSError as refusal:
        if refusal.errno not in _NO_HARD_LINKS:
            raise
        if final.exists():
            raise FileExistsError(errno.EEXIST, "exists already") from None
        path.rename(final)


def write_verified(data: Iterable[bytes], target: Path, *, key: str, sha256: str) -> None:
    """Write `data` to `target`, which appears only if the bytes have this digest. Raises ObjectCorrupt."""
    with temporary_file(target.parent) as (file, path):
        require_same(write_hashed(data, file), sha256, key=key)
        file.flush()
        path.replace(target)
