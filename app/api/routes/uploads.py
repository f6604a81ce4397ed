"""Multipart uploads for files that are large or lines that are slow."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from app.admission import AdmissionError
from app.api.bodies import arrival
from app.api.deps import RequestCaller, Services, Uploads
from app.api.errors import BodyTooLarge, RequestInvalid
from app.api.openapi import BINARY_BODY
from app.api.problems import problems
from app.api.resources import UploadOut
from app.db.tables import Upload
from app.ids import NotFound
from app.services.errors import DigestMismatch, PartsMissing, UploadNotOpen, UploadTooLarge
from app.services.uploads import UploadRequest
from app.storage import MAX_PARTS, Part
from app.storage.errors import PartsMismatch

router = APIRouter(prefix="/uploads", tags=["uploads"])


class PartIn(BaseModel):
    """A part that was sent, with the ETag that its PUT answered."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(ge=1, le=MAX_PARTS)
    etag: str = Field(min_length=1, max_length=200)


class CompleteIn(BaseModel):
    """The body of `POST /uploads/{id}/complete`."""

    model_config = ConfigDict(extra="forbid")

    parts: list[PartIn] = Field(min_length=1, max_length=MAX_PARTS)


@router.post(
    "",
    status_code=201,
    operation_id="beginUpload",
    summary="Begin an upload",
    responses=problems(UploadTooLarge, RequestInvalid),
)
def begin_upload(
    request: Request,
    response: Response,
    uploads: Uploads,
    caller: RequestCaller,
    services: Services,
    body: UploadRequest,
) -> UploadOut:
    """Begin an upload; PUT each part to its URL, then complete."""
    shown = _show(request, uploads, services, uploads.begin(caller.tenant, body))
    response.headers["Location"] = f"/uploads/{shown.id}"
    return shown


@router.get("/{upload_id}", operation_id="getUpload", summary="Get an upload", responses=problems(NotFound))
def get_upload(
    request: Request, uploads: Uploads, caller: RequestCaller, services: Services, upload_id: str
) -> UploadOut:
    """Look at an upload; an open one answers fresh links."""
    return _show(request, uploads, services, uploads.get(caller.tenant, upload_id))


@router.put(
    "/{upload_id}/parts/{number}",
    status_code=204,
    operation_id="sendPart",
    summary="Send a part of an upload",
    openapi_extra=BINARY_BODY,
    responses=problems(NotFound, PartsMissing, DigestMismatch, UploadNotOpen, BodyTooLarge),
)
async def send_part(
    request: Request, response: Response, services: Services, caller: RequestCaller, upload_id: str, number: int
) -> None:
    """Send one part through the service; on S3 the parts' own links are faster. The answer's ETag completes it."""
    upload = await run_in_threadpool(services.uploads.get, caller.tenant, upload_id)
    async with arrival(request, services.settings, name="part", labels={}, limit=upload.part_bytes) as part:
        etag = await run_in_threadpool(services.uploads.receive, upload, number, part.path)
    response.headers["ETag"] = etag


@router.post(
    "/{upload_id}/complete",
    operation_id="completeUpload",
    summary="Complete an upload",
    responses=problems(*AdmissionError.every(), NotFound, PartsMismatch, DigestMismatch, UploadNotOpen),
)
def complete_upload(
    request: Request, uploads: Uploads, caller: RequestCaller, services: Services, upload_id: str, body: CompleteIn
) -> UploadOut:
    """Join the parts and admit the file; `resource` is the new model or data set."""
    uploads.complete(
        caller.tenant,
        uploads.get(caller.tenant, upload_id),
        [Part(number=part.number, etag=part.etag) for part in body.parts],
    )
    return _show(request, uploads, services, uploads.get(caller.tenant, upload_id))


@router.delete(
    "/{upload_id}",
    status_code=204,
    operation_id="abortUpload",
    summary="Abort an upload",
    responses=problems(NotFound, UploadNotOpen),
)
def abort_upload(uploads: Uploads, caller: RequestCaller, upload_id: str) -> None:
    """Give up an upload; its parts are deleted."""
    uploads.abort(uploads.get(caller.tenant, upload_id))


def _show(request: Request, uploads: Uploads, services: Services, row: Upload) -> UploadOut:
    base = services.settings.public_url or str(request.base_url)
    return UploadOut.of(row, uploads.slots(row), base.rstrip("/"))
