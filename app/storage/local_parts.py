"""Multipart uploads in a folder."""

import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from app.storage.base import MIN_PART_BYTES, Part
from app.storage.digest import chunks, write_hashed
from app.storage.errors import PartsMismatch, UploadGone
from app.storage.files import flush, flush_folder, temporary_file
from app.storage.keys import require_number, require_sequence

_TOKEN = re.compile(r"[0-9a-f]{32}")
_ETAG = re.compile(r"[0-9a-f]{64}")


class LocalParts:
    """The parts of open uploads, one folder each below `folder`; `incoming` takes files being written."""

    def __init__(self, folder: Path, incoming: Path) -> None:
        self.folder = folder
        self._incoming = incoming

    def begin(self, key: str) -> str:
        """Open an upload for the key and return its token."""
        token = secrets.token_hex(16)
        prepared = self._incoming / token
        prepared.mkdir()
        (prepared / "key").write_text(key)
        prepared.rename(self.folder / token)
        return token

    def write(self, key: str, token: str, number: int, data: BinaryIO) -> str:
        """Store one part and return its SHA-256. Raises UploadGone or PartsMismatch."""
        upload = self._open(key, token)
        stem = f"{require_number(number):05d}"
        with temporary_file(self._incoming) as (file, path):
            etag = write_hashed(chunks(data), file)
            flush(file)
            try:
                path.replace(upload / f"{stem}-{etag}")
            except FileNotFoundError:
                raise _gone() from None
        for earlier in upload.glob(f"{stem}-*"):
            if earlier.name != f"{stem}-{etag}":
                earlier.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            flush_folder(upload)
        return etag

    def content(self, key: str, token: str, parts: Sequence[Part]) -> Iterator[bytes]:
        """Yield the joined parts after checking all of them. Raises UploadGone or PartsMismatch."""
        upload = self._open(key, token)
        require_sequence(parts)
        for part in parts:
            self._require(upload, part, last=part.number == len(parts))
        for part in parts:
            try:
                with self._path(upload, part).open("rb") as file:
                    yield from chunks(file)
            except FileNotFoundError:
                raise _gone() from None

    def is_open(self, key: str, token: str) -> bool:
        """Return whether the upload takes parts."""
        return bool(_TOKEN.fullmatch(token)) and self._key(self.folder / token) == key

    def drop(self, key: str, token: str) -> None:
        """Delete the upload, if it is there: at once by a rename, its parts after that."""
        if self.is_open(key, token):
            leftover = self._incoming / f"{token}-{secrets.token_hex(8)}"
            with suppress(FileNotFoundError):  # another caller was faster
                (self.folder / token).rename(leftover)
                shutil.rmtree(leftover, ignore_errors=True)

    def begun_before(self, moment: datetime) -> Iterator[tuple[str, str]]:
        """Yield (key, token) of every upload older than `moment`."""
        if not self.folder.is_dir():
            return
        for upload in self.folder.iterdir():
            with suppress(FileNotFoundError):
                key = self._key(upload)
                if key is not None and (upload / "key").stat().st_mtime < moment.timestamp():
                    yield key, upload.name

    def _open(self, key: str, token: str) -> Path:
        if not self.is_open(key, token):
            raise _gone()
        return self.folder / token

    @staticmethod
    def _key(upload: Path) -> str | None:
        try:
            return (upload / "key").read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None

    @staticmethod
    def _path(upload: Path, part: Part) -> Path:
        return upload / f"{part.number:05d}-{part.etag}"

    def _require(self, upload: Path, part: Part, *, last: bool) -> None:
        pointer = f"/parts/{part.number - 1}"
        if not _ETAG.fullmatch(part.etag) or not self._path(upload, part).is_file():
            raise PartsMismatch(f"part {part.number} was not received with this ETag", pointer=pointer)
        if not last and self._path(upload, part).stat().st_size < MIN_PART_BYTES:
            raise PartsMismatch(f"part {part.number} is smaller than {MIN_PART_BYTES} bytes", pointer=pointer)


def _gone() -> UploadGone:
    return UploadGone("there is no such upload in progress")
