"""The one contract of everything that keeps models, data sets and artifacts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

MIB = 1 << 20
CHUNK_BYTES = 1 * MIB
MIN_PART_BYTES = 5 * MIB
"""S3's limit for all parts of a multipart upload but the last; local storage keeps to it too."""
MAX_PARTS = 10_000


@dataclass(frozen=True)
class StoredObject:
    """One finished object: its size in bytes and when it was written (UTC)."""

    key: str
    bytes: int
    modified: datetime


@dataclass(frozen=True)
class Part:
    """One received part of a multipart upload, numbered from 1, with the ETag its upload answered."""

    number: int
    etag: str


class Store(Protocol):
    """Immutable objects under opaque keys; an object is visible whole or not at all.

    Keys are made by the service, never by a user: lower-case letters, digits, `_`, `-`, `.` in segments joined by
    `/`, no segment starting with a dot, no `..`; anything else is a ValueError. No key is the folder of another.
    Digests are lower-case hexadecimal SHA-256. Safe for many threads and processes at once.

    Every method may raise StorageUnavailable; none lets a library's own exception out. Errors of reading the
    caller's `source` or writing the caller's `target` file stay OSErrors.
    """

    def put(self, key: str, source: Path, *, sha256: str, media_type: str) -> None:
        """Store the file `source`; storing the same content again under its key changes nothing.

        Raises ObjectCorrupt if the bytes read do not have the digest `sha256` (then nothing becomes visible) and
        KeyTaken if the key holds other content.
        """
        ...

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return chunks of at most 1 MiB of the half-open byte range, clipped to the object's size.

        Raises ObjectMissing at the call, before the first chunk.
        """
        ...

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        """Copy the object to the local file `target`, which appears only after its digest was verified.

        Raises ObjectMissing or ObjectCorrupt.
        """
        ...

    def size(self, key: str) -> int:
        """Return the object's size in bytes. Raises ObjectMissing."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object; deleting what is not there is no error."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object whose key starts with `prefix` (may be empty), in no particular order."""
        ...

    def link(self, key: str, *, file_name: str, media_type: str, expires_s: int) -> str | None:
        """Return a presigned GET that downloads the object as `file_name`; None: stream it with `read`.

        The object's existence is not checked. The link is a secret: never log it.
        """
        ...

    def begin(self, key: str) -> str:
        """Begin a multipart upload and return its token."""
        ...

    def part_link(self, key: str, token: str, number: int, *, expires_s: int) -> str | None:
        """Return a presigned PUT for one part; None: send the part through `write_part`."""
        ...

    def write_part(self, key: str, token: str, number: int, source: Path) -> str:
        """Store one part, replacing an earlier one of that number, and return its ETag. Raises UploadGone."""
        ...

    def complete(self, key: str, token: str, parts: Sequence[Part]) -> int:
        """Join the parts into the object and return its size in bytes; completing again returns it again.

        Parts are numbered 1 to n without gaps. Raises PartsMismatch if one is wrong, unknown, too small or out of
        order (the upload stays open), and UploadGone. The content is not verified: its digest is the caller's to
        compute with `read`.
        """
        ...

    def abort(self, key: str, token: str) -> None:
        """Delete the upload and its parts; aborting what is gone is no error."""
        ...

    def stale_uploads(self, older_than: datetime) -> Iterator[tuple[str, str]]:
        """Yield (key, token) of every multipart upload begun before `older_than` and not finished."""
        ...

    def check(self) -> None:
        """Raise StorageUnavailable unless objects can be stored now."""
        ...
