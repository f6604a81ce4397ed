"""Errors as RFC 9457 problem documents: a code, a sentence, a remedy; never a path, a traceback or the input."""

import http
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException

from app.api.errors import (
    BodyTimeout,
    BodyTooLarge,
    Internal,
    MethodNotAllowed,
    NoSuchPath,
    RequestInvalid,
    RequestMalformed,
    UnsupportedMediaType,
)
from app.db.database import DatabaseUnavailable
from app.errors import PareError
from app.spec.pointers import pointer

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
DEFAULT_RETRY_AFTER_S = 5
MAX_ERRORS = 50
MAX_MESSAGE = 300


class FieldError(BaseModel):
    """One wrong place in the request."""

    pointer: str = Field(description="RFC 6901 pointer into the body, or `query/name`, `header/name`.")
    message: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; listed in docs/errors.md.")
    remedy: str
    errors: list[FieldError] = []
    request_id: str


def problems(*errors: type[PareError]) -> dict[int | str, dict[str, Any]]:
    """Describe, for OpenAPI, the errors a route can answer."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        known = by_status.setdefault(error.status, {"model": Problem, "description": "", "content": {MEDIA_TYPE: {}}})
        known["description"] += ("; " if known["description"] else "") + f"`{error.code}`"
    return by_status


def problem(error: PareError, request_id: str, errors: Sequence[FieldError] = ()) -> Problem:
    """Describe an error."""
    if error.pointer is not None and not errors:
        errors = [FieldError(pointer=error.pointer, message=error.detail)]
    return Problem(
        type=f"urn:pare:error:{error.code}",
        title=http.HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.detail,
        code=error.code,
        remedy=error.remedy,
        errors=list(errors),
        request_id=request_id,
    )


def answer(request: Request, error: PareError, errors: Sequence[FieldError] = ()) -> JSONResponse:
    """Write an error as a response."""
    shown = problem(error, request.scope.get("pare.request_id", ""), errors)
    headers = {}
    if error.status in {429, 503}:
        headers["Retry-After"] = str(getattr(error, "retry_after_s", DEFAULT_RETRY_AFTER_S))
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(shown.model_dump(), status_code=error.status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every failure of the application with a problem document."""
    app.add_exception_handler(PareError, _pare)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    for away in (InterfaceError, OperationalError):
        app.add_exception_handler(away, _database)
    app.add_exception_handler(Exception, _unexpected)


async def _pare(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PareError):
        raise error
    if error.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s: %s", error.code, error.detail, exc_info=error)
    return answer(request, error)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = error.errors()[:MAX_ERRORS]
    if any(fault["type"] == "json_invalid" and fault["loc"][0] == "body" for fault in faults):
        return answer(request, RequestMalformed("The body is not valid JSON."))
    if faults[0]["loc"] == ("body",) and not is_json(request):
        return answer(request, UnsupportedMediaType("The body is not declared as JSON."))
    errors = [FieldError(pointer=_pointer(fault["loc"], error.body), message=_message(fault)) for fault in faults]
    summary = errors[0].message if len(errors) == 1 else f"{len(errors)} fields are wrong."
    return answer(request, RequestInvalid(summary), errors)


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    known: dict[int, PareError] = {
        400: RequestMalformed("The body could not be read."),
        404: NoSuchPath("There is nothing at this path."),
        405: MethodNotAllowed("This path does not take that method."),
        408: BodyTimeout("The body stopped arriving."),
        413: BodyTooLarge("The body is larger than this path accepts."),
    }
    response = answer(request, known.get(error.status_code) or Internal("The request failed."))
    response.headers.update(error.headers or {})
    return response


async def _database(request: Request, error: Exception) -> JSONResponse:
    log.error("the database failed in request %s", request.scope.get("pare.request_id"), exc_info=error)
    return answer(request, DatabaseUnavailable("The database does not answer."))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # The server logs the traceback itself; this line ties it to the request.
    log.error("unexpected %s in request %s", type(error).__name__, request.scope.get("pare.request_id"))
    return answer(request, Internal("The service failed unexpectedly."))


def is_json(request: Request) -> bool:
    """Whether the body is declared as JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _pointer(location: Sequence[str | int], body: Any) -> str:
    """Write where a field is: an RFC 6901 pointer into the body, or `query/name`, `header/name`."""
    where, *rest = location
    if where != "body":
        return f"{where}/{rest[0] if rest else ''}"[:MAX_MESSAGE]
    return pointer(rest, body)


def _message(error: dict[str, Any]) -> str:
    # pydantic quotes the input in some messages; only its own words are passed on.
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])[:MAX_MESSAGE]
    return str(error["msg"])[:MAX_MESSAGE]
