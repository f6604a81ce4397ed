"""Sends a stored file: whole or one range, with its digest as the ETag; from S3 the client fetches it itself."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from app.api.errors import RangeNotSatisfiable
from app.api.problems import answer
from app.db.tables import Artifact, Dataset, Model
from app.settings import Settings
from app.storage import Store
from app.storage.disposition import attachment

ONE_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))", re.ASCII)
LONGEST_RANGE = 100


@dataclass(frozen=True)
class StoredFile:
    """Where a file's bytes are and how it is presented."""

    key: str
    sha256: str
    bytes: int
    name: str
    media_type: str = "application/octet-stream"

    @classmethod
    def of(cls, row: Model | Dataset | Artifact) -> "StoredFile":
        """The file that a row describes, under the name that its owner gave it."""
        media_type = row.media_type if isinstance(row, Artifact) else cls.media_type
        return cls(row.key, row.sha256, row.bytes, row.name, media_type)


def content(request: Request, store: Store, settings: Settings, file: StoredFile) -> Response:
    """Answer GET or HEAD of a stored file (RFC 9110: ETag, If-None-Match, Range, If-Range)."""
    etag = f'"{file.sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    link = store.link(file.key, file_name=file.name, media_type=file.media_type, expires_s=settings.link_ttl_s)
    if link is not None:
        return RedirectResponse(link, status_code=307, headers={**headers, "Cache-Control": "no-store"})
    headers["Content-Disposition"] = attachment(file.name)
    start, end, status = 0, file.bytes, 200
    wanted = ONE_RANGE.fullmatch(request.headers.get("range", "")[:LONGEST_RANGE])
    if wanted and _is_valid(wanted) and request.headers.get("if-range", etag) == etag:
        start, end = _bounds(wanted, file.bytes)
        if start >= end:
            refusal = answer(request, RangeNotSatisfiable(f"The file has {file.bytes} bytes."))
            refusal.headers["Content-Range"] = f"bytes */{file.bytes}"
            return refusal
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.bytes}"
    headers["Content-Length"] = str(end - start)
    body: Iterator[bytes] = iter(()) if request.method == "HEAD" else store.read(file.key, start=start, end=end)
    return StreamingResponse(body, status_code=status, headers=headers, media_type=file.media_type)


def _is_valid(wanted: re.Match[str]) -> bool:
    # RFC 9110, 14.1.1: a range that ends before it begins is invalid, and an invalid one is ignored.
    first, last, _ = wanted.groups()
    return not last or int(first) <= int(last)


def _bounds(wanted: re.Match[str], size: int) -> tuple[int, int]:
    first, last, suffix = wanted.groups()
    if suffix is not None:
        return max(0, size - int(suffix)), size
    return int(first), min(size, int(last) + 1) if last else size


def _matches(condition: str | None, etag: str) -> bool:
    if condition is None:
        return False
    return condition.strip() == "*" or etag in (known.strip().removeprefix("W/") for known in condition.split(","))
