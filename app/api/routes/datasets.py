"""Data sets: upload, list, look, download, delete."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Json
from starlette.concurrency import run_in_threadpool

from app.admission import AdmissionError
from app.api.bodies import arrival
from app.api.content import StoredFile, content
from app.api.deps import LabelQuery, Library, Page, RequestCaller, Services
from app.api.errors import BodyTimeout, BodyTooLarge, RequestInvalid, UnsupportedMediaType
from app.api.openapi import BINARY_ANSWER, BINARY_BODY
from app.api.problems import problems
from app.api.resources import DatasetOut, PageOut
from app.db.tables import Dataset
from app.ids import NotFound
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
    "",
    status_code=201,
    operation_id="uploadDataset",
    summary="Upload a data set",
    openapi_extra=BINARY_BODY,
    responses=problems(*AdmissionError.every(), BodyTooLarge, BodyTimeout, UnsupportedMediaType, RequestInvalid),
)
async def upload_dataset(
    request: Request,
    response: Response,
    services: Services,
    caller: RequestCaller,
    name: Annotated[Name, Query()],
    labels: LabelQuery,
    spec: SpecQuery = WHOLE,
) -> DatasetOut:
    """Upload an `.npz`, as the raw body: arrays named like the model's inputs, and the labels `y`."""
    limit = services.settings.max_upload_bytes
    async with arrival(request, services.settings, name=name, labels=labels, limit=limit) as arrived:
        row = await run_in_threadpool(services.library.add_dataset, caller.tenant, arrived, spec)
    shown = DatasetOut.of(row)
    response.headers["Location"] = f"/datasets/{shown.id}"
    return shown


@router.get("", operation_id="listDatasets", summary="List data sets", responses=problems(RequestInvalid))
def list_datasets(library: Library, caller: RequestCaller, wanted: Page, labels: LabelQuery) -> PageOut[DatasetOut]:
    """List data sets, newest first."""
    rows, more = library.page(Dataset, caller.tenant, limit=wanted.limit, after=wanted.cursor("ds"), labels=labels)
    return PageOut.of([DatasetOut.of(row) for row in rows], more=more)


@router.get("/{dataset_id}", operation_id="getDataset", summary="Get a data set", responses=problems(NotFound))
def get_dataset(library: Library, caller: RequestCaller, dataset_id: str) -> DatasetOut:
    """Look at a data set: its arrays, splits and preprocessing."""
    return DatasetOut.of(library.get(Dataset, caller.tenant, dataset_id))


@router.head("/{dataset_id}/content", include_in_schema=False)
@router.get(
    "/{dataset_id}/content",
    response_class=Response,
    operation_id="downloadDataset",
    summary="Download a data set",
    responses=BINARY_ANSWER | problems(NotFound),
)
def download_dataset(request: Request, services: Services, caller: RequestCaller, dataset_id: str) -> Response:
    """Download the file as it was uploaded."""
    row = services.library.get(Dataset, caller.tenant, dataset_id)
    return content(request, services.store, services.settings, StoredFile.of(row))


@router.delete(
    "/{dataset_id}",
    status_code=204,
    operation_id="deleteDataset",
    summary="Delete a data set",
    responses=problems(NotFound, InUse),
)
def delete_dataset(library: Library, caller: RequestCaller, dataset_id: str) -> None:
    """Delete a data set that no unfinished job reads. Finished jobs keep their results."""
    library.delete(Dataset, caller.tenant, dataset_id)
