"""The HTTP server's own limits, before any request is whole: bytes, time and connections that a client may take.

uvicorn bounds none of them: it keeps headers and trailers as long as they come, and a connection as long as it says
nothing. What is refused here never reaches the application, so it is answered here, in the application's words.
"""

import asyncio
import resource
from typing import Any, Final
from uuid import uuid4

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.errors import HeadersTimeout, HeadersTooLarge, RequestUnreadable, TooManyConnections
from app.api.problems import MEDIA_TYPE, problem
from app.errors import PareError
from app.settings import Settings

MAX_HEADER_BYTES: Final = 64 << 10
"""Of a request's first line, headers and trailers; nginx takes 32 KiB."""
FRAMES_PER_BODY_BYTE: Final = 8
"""Bytes around a chunk of one byte: `1\\r\\nx\\r\\n` has five."""
HEADER_SECONDS: Final = 30
MOST_CONNECTIONS: Final = 10_000
FILES_PER_CONNECTION: Final = 2
"""One for the connection itself, one for what it reads or writes, or for a database connection, a log, a module."""


def max_connections() -> int:
    """As many as leave files for the rest of the process, so that accepting one never fails for want of them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // FILES_PER_CONNECTION)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol, with an end to everything around a body."""

    max_connections: int = max_connections()
    header_seconds: float = HEADER_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._overhead_bytes = 0
        self._arriving_bytes = 0
        self._awaits_headers = True
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(TooManyConnections("The service has as many connections as it can hold."))
            return
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless too much has come that is no body."""
        if self.transport.is_closing():
            return
        if self._awaits_headers and self._deadline is None:
            self._start_deadline()
        self._arriving_bytes = len(data)
        self._overhead_bytes += len(data)
        super().data_received(data)
        if self._overhead_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(HeadersTooLarge(f"More than {MAX_HEADER_BYTES} bytes came around the body."))

    def on_message_begin(self) -> None:
        """A request begins in the bytes that are being read."""
        self._overhead_bytes = self._arriving_bytes
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its headers are whole."""
        self._awaits_headers = False
        self._stop_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body pays for itself and its frame."""
        self._overhead_bytes = max(0, self._overhead_bytes - (1 + FRAMES_PER_BODY_BYTE) * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next bytes are another request's."""
        self._awaits_headers = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # what the parser says is for the log
        """Answer what is no HTTP."""
        self._refuse(RequestUnreadable("The request is not HTTP/1.1."))

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self._miss_deadline)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _miss_deadline(self) -> None:
        self._deadline = None
        self._refuse(HeadersTimeout(f"The headers did not arrive within {self.header_seconds:g} s."))

    def _refuse(self, error: PareError) -> None:
        """Answer, unless another answer is on its way, and close."""
        self._stop_deadline()
        if self.cycle is None or self.cycle.response_complete:
            request_id = uuid4().hex
            body = problem(error, request_id).model_dump_json().encode()
            headers = {
                "content-type": MEDIA_TYPE,
                "content-length": str(len(body)),
                "x-request-id": request_id,
                "x-content-type-options": "nosniff",
                "connection": "close",
            }
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self.transport.write(STATUS_LINE[error.status] + lines.encode() + b"\r\n" + body)
        self.transport.close()


def serve(app: FastAPI, settings: Settings, *, grace_s: int | None = None) -> None:
    """Serve until a signal ends it, then for at most `grace_s` seconds."""
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedHttp,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace_s,
    )
