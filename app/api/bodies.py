"""Takes a file from a request body to local disk: counted, hashed and bounded on the way, memory flat."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BufferedWriter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.api.errors import BodyShort, UnsupportedMediaType
from app.api.middleware import BUDGET
from app.services.library import Arrival
from app.settings import SPOOL_PREFIX, Settings

Body = TypeVar("Body", bound=BaseModel)
WRITE_BYTES = 4 << 20
"""The body is handed to the disk and the hash in pieces of this size: large enough to leave the event loop seldom."""
FILE_TYPES = frozenset({"application/octet-stream", "application/zip", "application/x-tar", ""})


@asynccontextmanager
async def arrival(
    request: Request, settings: Settings, *, name: str, labels: Mapping[str, str], limit: int
) -> AsyncIterator[Arrival]:
    """Receive the body into a file that is deleted when the block ends.

    Raises `BodyShort`, `UnsupportedMediaType`; more than `limit` bytes are a 413, a body that stalls is a 408.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in FILE_TYPES:
        raise UnsupportedMediaType("The file is sent as it is, as application/octet-stream.")
    request.scope[BUDGET].limit = limit
    settings.scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=settings.scratch, prefix=SPOOL_PREFIX) as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            size, digest = await _receive(request, file)
        yield Arrival(path, size, digest, name, labels)


async def json_body(request: Request, model: type[Body]) -> Body:
    """Read the body as JSON of a model, where a route also takes files. Raises `RequestValidationError`."""
    text = await request.body()
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(faults, body=_parsed(text)) from error


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


async def _receive(request: Request, file: BufferedWriter) -> tuple[int, str]:
    digest, size, pending = hashlib.sha256(), 0, bytearray()
    writing: asyncio.Future[None] | None = None
    try:
        async for chunk in request.stream():
            size += len(chunk)
            pending += chunk
            if len(pending) >= WRITE_BYTES:
                if writing is not None:
                    await writing  # at most one piece is in flight: memory stays flat
                writing = asyncio.ensure_future(run_in_threadpool(_write, file, digest, bytes(pending)))
                pending.clear()
    except ClientDisconnect as error:
        raise BodyShort("The connection ended before the body was complete.") from error
    finally:
        if writing is not None:
            await writing
    await run_in_threadpool(_write, file, digest, bytes(pending))
    return size, digest.hexdigest()


def _write(file: BufferedWriter, digest: Any, piece: bytes) -> None:
    digest.update(piece)
    file.write(piece)
