"""A folder as a store, for one machine: nothing to install, and the reference for what every store does.

    ROOT/objects/KEY               finished objects, under their keys as paths
    ROOT/incoming/.NAME.partial    files being written; they get their names when complete and on the disk
    ROOT/uploads/TOKEN/key         the key that a multipart upload is for; the folder appears together with it
    ROOT/uploads/TOKEN/NUMBER-SHA256    a received part; the digest is its ETag

All three lie in one file system, so that a rename publishes. Whoever may write the folder may change the objects;
their digests are in the database, and `fetch` verifies them.
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from app.storage import local_parts
from app.storage.base import Part, StoredObject
from app.storage.digest import chunks, require_same, sha256_of, write_hashed
from app.storage.errors import KeyTaken, ObjectMissing, StorageUnavailable
from app.storage.files import flush, flush_folder, publish, temporary_file, write_verified
from app.storage.keys import require_digest, require_key, require_prefix, require_range

ABANDONED_SECONDS = 24 * 3600
"""A file still in `incoming` after this long belongs to a process that died."""
PUBLISH_ATTEMPTS = 100


class LocalStore:
    """Keeps objects in the folder `root`, which is made when first needed."""

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._incoming = root / "incoming"
        self._parts = local_parts.LocalParts(root / "uploads", self._incoming)

    def put(self, key: str, source: Path, *, sha256: str, media_type: str) -> None:  # noqa: ARG002  # links carry it
        """Write and flush a temporary file, which a rename then publishes; the media type goes into links alone."""
        final = self._path(key)
        require_digest(sha256)
        with source.open("rb") as data, _failures(), self._new_file() as (file, path):
            require_same(write_hashed(chunks(data), file), sha256, key=key)
            flush(file)
            self._publish(path, final, sha256, key)

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Open the file when the first chunk is asked for; that it is there is checked now."""
        require_range(start, end)
        size = self.size(key)
        return self._range(key, start, size if end is None else end)

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        """Copy the file, since others may have changed it: its digest is taken once more."""
        require_digest(sha256)
        write_verified(self.read(key), target, key=key, sha256=sha256)

    def size(self, key: str) -> int:
        """Ask the file system."""
        with _failures(key):
            path = self._path(key)
            if not path.is_file():
                raise ObjectMissing(f"there is no object {key}")
            return path.stat().st_size

    def delete(self, key: str) -> None:
        """Delete the file, and the folders that it leaves empty."""
        path = self._path(key)
        with _failures():
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                path.unlink()
            self._drop_empty_folders(path.parent)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Walk the folder; what is deleted meanwhile is left out."""
        require_prefix(prefix)
        top = self._objects / prefix.rpartition("/")[0]
        with _failures():
            for folder, _, names in os.walk(top, onerror=_raise_unless_gone):
                for path in (Path(folder, name) for name in names):
                    key = path.relative_to(self._objects).as_posix()
                    if key.startswith(prefix):
                        with suppress(FileNotFoundError):  # deleted since it was listed
                            status = path.stat()
                            yield StoredObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def link(self, key: str, *, file_name: str, media_type: str, expires_s: int) -> str | None:  # noqa: ARG002
        """Return None: the service streams local objects itself."""
        require_key(key)
        return None

    def begin(self, key: str) -> str:
        """Make the folder of the parts."""
        with _failures():
            self._make_folders()
            return self._parts.begin(require_key(key))

    def part_link(self, key: str, token: str, number: int, *, expires_s: int) -> str | None:  # noqa: ARG002
        """Return None: parts come through the service."""
        require_key(key)
        return None

    def write_part(self, key: str, token: str, number: int, source: Path) -> str:
        """The ETag is the part's SHA-256."""
        with source.open("rb") as data, _failures():
            return self._parts.write(require_key(key), token, number, data)

    def complete(self, key: str, token: str, parts: Sequence[Part]) -> int:
        """Join the parts into a temporary file, which a rename then publishes."""
        final = self._path(key)
        with _failures():
            if final.is_file() and not self._parts.is_open(key, token):
                return final.stat().st_size
            with self._new_file() as (file, path):
                sha256 = write_hashed(self._parts.content(key, token, parts), file)
                flush(file)
                self._publish(path, final, sha256, key)
            self._parts.drop(key, token)
            return final.stat().st_size

    def abort(self, key: str, token: str) -> None:
        """Delete the folder of the parts."""
        with _failures():
            self._parts.drop(require_key(key), token)

    def stale_uploads(self, older_than: datetime) -> Iterator[tuple[str, str]]:
        """Go by when the folders of parts were made."""
        with _failures():
            yield from self._parts.begun_before(older_than)

    def check(self) -> None:
        """Writes and deletes one byte; also clears away what crashed writers left behind."""
        with _failures():
            with self._new_file() as (file, _):
                file.write(b"\0")
                flush(file)
            for path in self._incoming.iterdir():
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _path(self, key: str) -> Path:
        return self._objects / require_key(key)

    def _make_folders(self) -> None:
        for folder in (self._objects, self._incoming, self._parts.folder):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _new_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        self._make_folders()
        with temporary_file(self._incoming) as opened:
            yield opened

    def _publish(self, path: Path, final: Path, sha256: str, key: str) -> None:
        for _ in range(PUBLISH_ATTEMPTS):
            try:
                final.parent.mkdir(parents=True, exist_ok=True)
                publish(path, final)
            except (FileNotFoundError, FileExistsError, NotADirectoryError):
                stored = _digest(final)
                if stored is None and not (final.is_dir() or self._folder_is_object(final)):
                    continue  # a concurrent delete took the object or its folder away in between
                if stored != sha256:
                    raise KeyTaken(f"other content is stored as {key}") from None
            self._flush_folders(final.parent)
            return
        raise StorageUnavailable("the storage folder is being changed by somebody else")

    def _folder_is_object(self, final: Path) -> bool:
        return any(folder.is_file() for folder in final.parents if folder.is_relative_to(self._objects))

    def _flush_folders(self, folder: Path) -> None:
        while folder.is_relative_to(self._objects):
            with suppress(FileNotFoundError):  # deleted already
                flush_folder(folder)
            folder = folder.parent

    def _range(self, key: str, start: int, end: int) -> Iterator[bytes]:
        with _failures(key), self._path(key).open("rb") as file:
            file.seek(start)
            yield from chunks(file, limit=max(0, end - start))

    def _drop_empty_folders(self, folder: Path) -> None:
        while folder != self._objects:
            try:
                folder.rmdir()
            except OSError:
                return  # not empty, or gone already
            folder = folder.parent


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of the file, None if there is none."""
    try:
        with path.open("rb") as file:
            return sha256_of(chunks(file))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


@contextmanager
def _failures(key: str | None = None) -> Iterator[None]:
    """Turn what the operating system says into what the service says, without its paths."""
    try:
        yield
    except FileNotFoundError as error:
        if key is not None:
            raise ObjectMissing(f"there is no object {key}") from error
        raise StorageUnavailable("the storage folder is not there") from error
    except OSError as error:
        raise StorageUnavailable(
            f"the storage folder cannot be used: {error.strerror or type(error).__name__}"
        ) from error
