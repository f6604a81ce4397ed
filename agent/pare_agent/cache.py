"""Files by their SHA-256, kept within a size: a baseline and its rows serve several tasks."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK_BYTES = 1 << 20


class FileRefused(Exception):
    """What arrived is not what was announced, or is larger than the cache."""


class Cache:
    """A folder of at most `max_bytes`; the files used longest ago go first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Keep files in `folder`, which is made if need be."""
        self._folder, self._max_bytes = folder, max_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, sha256: str, size: int, fetch: Callable[[int], Iterator[bytes]]) -> Path:
        """Return the file, verified; `fetch` yields its bytes from a position, where an earlier try broke off.

        Raises `FileRefused` and what `fetch` raises.
        """
        path = self._folder / sha256
        if path.exists() and (path.stat().st_size != size or digest(path) != sha256):
            path.unlink()
        if not path.exists():
            self._make_room(size)
            self._download(path, sha256, size, fetch)
        os.utime(path)
        return path

    def _download(self, path: Path, sha256: str, size: int, fetch: Callable[[int], Iterator[bytes]]) -> None:
        part = path.with_suffix(".part")
        held = part.stat().st_size if part.exists() else 0
        if held > size:
            part.unlink()
            held = 0
        with part.open("ab") as file:
            for chunk in fetch(held) if held < size else ():
                held += len(chunk)
                if held > size:
                    break
                file.write(chunk)
        if held < size:
            raise ConnectionError("The line broke before the file was complete.")
        actual = digest(part)
        if held > size or actual != sha256:
            part.unlink()
            raise FileRefused(f"A file arrived with SHA-256 {actual[:12]}…, announced was {sha256[:12]}….")
        part.replace(path)

    def _make_room(self, size: int) -> None:
        if size > self._max_bytes:
            raise FileRefused(f"A file of {size >> 20} MiB is larger than the cache of {self._max_bytes >> 20} MiB.")
        held = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in held)
        for path in held:
            if total + size <= self._max_bytes:
                return
            total -= path.stat().st_size
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
