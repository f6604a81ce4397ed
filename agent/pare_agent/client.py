"""Requests to the service: TLS checked by the standard library, credentials sent to the service alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from pare_agent import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
TIMEOUT_S = 60.0
"""Of one silence on the line, not of a whole transfer."""
CHUNK_BYTES = 1 << 18
LARGEST_ANSWER = 4 << 20
REDIRECTS = {302, 303, 307, 308}
FOLLOWED = 2


class Unreachable(Exception):
    """The service cannot be reached now, or is not in order: try again later."""


class Refused(Exception):
    """The service does not want this request: 401 that the credential is void, 409 that the task is gone."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        """Keep the status, the service's own code, and its sentence."""
        super().__init__(f"{detail} ({code or status})")
        self.status, self.code = status, code


class Insecure(Exception):
    """A URL that is not HTTPS, where anybody on the way could read the credential."""


class Client:
    """One service; `credential` goes with every request to it, and with none to any other place."""

    def __init__(
        self, server: str, credential: str | None = None, *, allow_http: bool = False, ca_file: str | None = None
    ) -> None:
        """Prepare; nothing is sent. Raises `Insecure` for plain HTTP to another machine, unless that is allowed."""
        self._server = server.rstrip("/")
        self._credential, self._allow_http = credential, allow_http
        self._require_secure(self._server)
        handlers = [
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)),
            _NoRedirects(),
        ]
        self._opener = urllib.request.build_opener(*handlers)

    def post(self, path: str, body: dict[str, Any], *, timeout_s: float = TIMEOUT_S) -> dict[str, Any] | None:
        """Send JSON; the answer's JSON, or None for 204. Raises `Refused`, `Unreachable`."""
        request = self._request("POST", path, json.dumps(body).encode(), "application/json")
        with self._opened(request, timeout_s) as answer:
            if answer.status == http.client.NO_CONTENT:
                return None
            with _line():
                text = answer.read(LARGEST_ANSWER)
        try:
            content: dict[str, Any] = json.loads(text)
        except ValueError:
            raise Unreachable("The answer is no JSON.") from None
        return content

    def send(self, path: str, file: Path) -> None:
        """PUT a file as it is. Raises `Refused`, `Unreachable`."""
        with file.open("rb") as content:
            request = self._request("PUT", path, content, "application/octet-stream")
            request.add_header("Content-Length", str(file.stat().st_size))
            with self._opened(request, TIMEOUT_S):
                pass

    def fetch(self, path: str, start: int) -> Iterator[bytes]:
        """Yield a file's bytes from position `start`; the storage server's, where the service sends us there.

        Raises `Refused`, `Unreachable`, `Insecure`.
        """
        request = self._request("GET", path, None, None)
        for _ in range(FOLLOWED):
            if start:
                request.add_header("Range", f"bytes={start}-")
            with self._opened(request, TIMEOUT_S) as answer:
                if answer.status not in REDIRECTS:
                    yield from self._content(answer, start)
                    return
                elsewhere = urljoin(request.full_url, answer.headers.get("Location", ""))
            self._require_secure(elsewhere)
            # A new request: the credential is for the service, not for where it sends us.
            request = urllib.request.Request(elsewhere, headers=_HEADERS)  # noqa: S310  # checked just above
        raise Unreachable("The service sends from one place to the next.")

    @staticmethod
    def _content(answer: http.client.HTTPResponse, start: int) -> Iterator[bytes]:
        whole = answer.status == http.client.OK
        with _line():
            if start and whole:  # a server without ranges: what is there already is passed over
                while start:
                    start -= len(answer.read(min(CHUNK_BYTES, start))) or start
            while chunk := answer.read(CHUNK_BYTES):
                yield chunk

    def _request(self, method: str, path: str, data: Any, media_type: str | None) -> urllib.request.Request:
        request = urllib.request.Request(self._server + path, data, dict(_HEADERS), method=method)  # noqa: S310
        if media_type:
            request.add_header("Content-Type", media_type)
        if self._credential:
            request.add_unredirected_header("Authorization", f"Bearer {self._credential}")
        return request

    @contextlib.contextmanager
    def _opened(self, request: urllib.request.Request, timeout_s: float) -> Iterator[http.client.HTTPResponse]:
        with _line():
            try:
                answer = self._opener.open(request, timeout=timeout_s)
            except urllib.error.HTTPError as error:
                if error.code not in REDIRECTS:
                    raise _refusal(error) from None
                answer = error
        with contextlib.closing(answer):
            yield answer

    def _require_secure(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "https" or (
            parts.scheme == "http" and (self._allow_http or (parts.hostname or "") in LOOPBACK)
        ):
            return
        place = parts.hostname or url
        raise Insecure(f"{place} is not reached by https; --allow-http permits that, on a network you trust.")


_HEADERS = {"User-Agent": f"pare-agent/{__version__}", "Accept": "application/json, */*"}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would take the credential along."""

    def redirect_request(self, *_: Any) -> None:
        return None


@contextlib.contextmanager
def _line() -> Iterator[None]:
    """What can happen on a line becomes `Unreachable`."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            raise
        reason = getattr(error, "reason", None) or error
        raise Unreachable(f"{reason}") from error


def _refusal(error: urllib.error.HTTPError) -> Exception:
    with contextlib.closing(error):
        try:
            problem = json.loads(error.read(LARGEST_ANSWER))
        except (OSError, ValueError, http.client.HTTPException):
            problem = {}
    if not isinstance(problem, dict):
        problem = {}
    detail = str(problem.get("detail") or f"The service answered {error.code}.")
    if error.code >= http.client.INTERNAL_SERVER_ERROR or error.code in {408, 429}:
        return Unreachable(detail)
    return Refused(error.code, str(problem.get("code", "")), detail)
