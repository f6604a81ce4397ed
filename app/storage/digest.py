"""Hashing bytes while they pass."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from app.storage.base import CHUNK_BYTES
from app.storage.errors import ObjectCorrupt


def chunks(file: BinaryIO, *, limit: int | None = None) -> Iterator[bytes]:
    """Yield up to `limit` bytes from the file's position, at most 1 MiB at a time."""
    left = limit
    while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        yield chunk
        if left is not None:
            left -= len(chunk)


def sha256_of(data: Iterable[bytes]) -> str:
    """Return the hexadecimal SHA-256 of the chunks."""
    digest = hashlib.sha256()
    for chunk in data:
        digest.update(chunk)
    return digest.hexdigest()


def write_hashed(data: Iterable[bytes], target: BinaryIO) -> str:
    """Write the chunks to the file and return their hexadecimal SHA-256."""
    digest = hashlib.sha256()
    for chunk in data:
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def require_same(actual: str, expected: str, *, key: str) -> None:
    """Compare two digests. Raises ObjectCorrupt."""
    if actual != expected:
        raise ObjectCorrupt(f"the content of {key} has SHA-256 {actual}, and {expected} was recorded for it")
