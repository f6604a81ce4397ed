"""Data sets: upload, list, look, download, delete."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Json
from starlette.concurrency import run_in_threadpool

from app.admission import AdmissionError
from app.api.bodies import arrival
from app.api.content import StoredFile, content
from app.api.deps import By, LabelQuery, Library, Page, Parts
from app.api.errors import BodyTimeout, BodyTooLarge, RequestInvalid, UnsupportedMediaType
from app.api.openapi import BINARY_ANSWER, BINARY_BODY
from app.api.problems import problems
from app.api.resources import DatasetOut, PageOut
from app.db.tables import Dataset
from app.ids import NotFound, public
from app.services.errors import InUse
from app.spec.base import Name
from app.spec.data import DatasetSpec

router = APIRouter(prefix="/datasets", tags=["datasets"])
WHOLE = DatasetSpec()

SpecQuery = Annotated[
    Json[DatasetSpec],
    Query(
        description="A DatasetSpec as JSON: splits, seed, preprocessing.",
        examples=['{"splits": {"calibration": 0.2, "test": 0.8}}'],
    ),
]


@router.post(
    "", status_code=201, operation_id="uploadDataset", openapi_extra=BINARY_BODY,
    responses=problems(*AdmissionError.every(), BodyTooLarge, BodyTimeout, UnsupportedMediaType, RequestInvalid),
)  # fmt: skip
async def upload(
    request: Request, response: Response, parts: Parts, by: By, name: Annotated[Name, Query()], labels: LabelQuery,
    spec: SpecQuery = WHOLE,
) -> DatasetOut:  # fmt: skip
    """Upload an `.npz`, as the raw body: arrays named like the model's inputs, and the labels `y`."""
    limit = parts.settings.max_upload_bytes
    async with arrival(request, parts.settings, name=name, labels=labels, limit=limit) as arrived:
        row = await run_in_threadpool(parts.library.add_dataset, by.tenant, arrived, spec)
    shown = DatasetOut.of(row)
    response.headers["Location"] = f"/datasets/{shown.id}"
    return shown


@router.get("", operation_id="listDatasets", responses=problems(RequestInvalid))
def page(library: Library, by: By, wanted: Page, labels: LabelQuery) -> PageOut[DatasetOut]:
    """List data sets, newest first."""
    rows, more = library.page(Dataset, by.tenant, limit=wanted.limit, after=wanted.cursor("ds"), labels=labels)
    return PageOut(
        data=[DatasetOut.of(row) for row in rows], has_more=more, next=public("ds", rows[-1].id) if more else None
    )


@router.get("/{dataset_id}", operation_id="getDataset", responses=problems(NotFound))
def one(library: Library, by: By, dataset_id: str) -> DatasetOut:
    """Look at a data set: its arrays, splits and preprocessing."""
    return DatasetOut.of(library.one(Dataset, by.tenant, dataset_id))


@router.head("/{dataset_id}/content", include_in_schema=False)
@router.get(
    "/{dataset_id}/content",
    response_class=Response,
    operation_id="downloadDataset",
    responses=BINARY_ANSWER | problems(NotFound),
)
def download(request: Request, parts: Parts, by: By, dataset_id: str) -> Response:
    """Download the file as it was uploaded."""
    row = parts.library.one(Dataset, by.tenant, dataset_id)
    file = StoredFile(row.key, row.sha256, row.bytes, row.name)
    return content(request, parts.store, parts.settings, file)


@router.delete("/{dataset_id}", status_code=204, operation_id="deleteDataset", responses=problems(NotFound, InUse))
def delete(library: Library, by: By, dataset_id: str) -> None:
    """Delete a data set that no unfinished job reads. Finished jobs keep their results."""
    library.delete(Dataset, by.tenant, dataset_id)
