"""What happens around every request: an id, a host check, safe headers, one line in the log."""

import asyncio
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import CrossSite, HostForbidden
from app.api.problems import answer

log = logging.getLogger("pare.access")

READS = frozenset({"GET", "HEAD", "OPTIONS"})
BUDGET = "pare.body_budget"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """Gives each request an id (the client's, if it is one printable word) and logs one line when it is done."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
        scope["pare.request_id"] = request_id
        started = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            took_ms = (time.perf_counter() - started) * 1000
            # The path as it came, percent-encoded: a newline in it cannot forge a line. No query: it may hold secrets.
            path = scope.get("raw_path", b"").split(b"?")[0].decode("ascii", "replace")
            log.info("%s %s %d %.1f ms %s", scope["method"], path, status, took_ms, request_id)


@dataclass
class BodyBudget:
    """How many bytes of this request's body may still arrive; a route that takes files raises it before it reads."""

    limit: int


class BodyLimit:
    """Refuses a body that is over its limit, announced or counted, and one that stalls.

    (FastAPI's own `max_body_size` answers in plain text, outside the error handlers.)
    """

    def __init__(self, app: ASGIApp, limit: int, idle_s: float) -> None:
        self.app = app
        self.limit = limit
        self.idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        budget = scope[BUDGET] = BodyBudget(self.limit)
        announced = Headers(scope=scope).get("content-length", "")
        arriving = int(announced) if announced.isdigit() else 0
        counted, complete = 0, False

        async def receive_within_budget() -> Message:
            nonlocal counted, complete
            if complete:
                return await receive()  # waits for the client to leave, which may take as long as it likes
            if arriving > budget.limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            try:
                async with asyncio.timeout(self.idle_s):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, headers={"Connection": "close"}) from error
            counted += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if counted > budget.limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self.app(scope, receive_within_budget, send)


class SameSite:
    """Refuses writes that a page of another site makes in somebody's browser: without keys, being there is enough."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in READS:
            headers = Headers(scope=scope)
            site = headers.get("sec-fetch-site", "none")
            origin = urlsplit(headers.get("origin", "")).netloc
            if site not in {"same-origin", "none"} or ("origin" in headers and origin != headers.get("host")):
                refusal = answer(Request(scope), CrossSite("The request was made by a page of another site."))
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


class AllowedHosts:
    """Refuses other Host headers: a page on the web whose name resolves to 127.0.0.1 must not reach the service."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app = app
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
            if name.lower() not in self.hosts:
                refusal = answer(Request(scope), HostForbidden("The service does not answer to this Host."))
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)
