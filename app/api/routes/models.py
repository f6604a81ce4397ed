"""Models: upload, list, look, download, delete."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Json
from starlette.concurrency import run_in_threadpool

from app.admission import AdmissionError
from app.api.bodies import arrival, json_body
from app.api.compatibility import CompatibilitiesOut, CompatibilityOut
from app.api.content import StoredFile, content
from app.api.deps import LabelQuery, Library, Page, RequestCaller, Services
from app.api.errors import BodyTimeout, BodyTooLarge, RequestInvalid, RequestMalformed, UnsupportedMediaType
from app.api.openapi import BINARY_ANSWER, MODEL_BODY
from app.api.problems import is_json, problems
from app.api.resources import ModelDetailOut, ModelOut, PageOut
from app.db.tables import Model
from app.ids import NotFound
from app.services.compatibility import named
from app.services.errors import HubMismatch, HubUnreachable, InUse, TargetUnknown, UnknownWeights
from app.spec.architecture import Architecture, NamedWeights
from app.spec.base import Name

router = APIRouter(prefix="/models", tags=["models"])

ArchitectureQuery = Annotated[
    Json[Architecture | None],
    Query(
        description="What weights are of, as JSON; for files that hold no graph.",
        examples=['{"architecture": "torchvision:resnet50", "kwargs": {"num_classes": 10}}'],
    ),
]


TargetQuery = Annotated[
    str | None,
    Query(max_length=100, description="A format or a label; without it, all targets.", examples=["onnx/x86"]),
]


@router.post(
    "",
    status_code=201,
    operation_id="uploadModel",
    summary="Upload a model",
    openapi_extra=MODEL_BODY,
    responses=problems(
        *AdmissionError.every(),
        BodyTooLarge,
        BodyTimeout,
        UnsupportedMediaType,
        RequestInvalid,
        RequestMalformed,
        UnknownWeights,
        HubUnreachable,
        HubMismatch,
    ),
)
async def upload_model(
    request: Request,
    response: Response,
    services: Services,
    caller: RequestCaller,
    name: Annotated[Name, Query()],
    labels: LabelQuery,
    architecture: ArchitectureQuery = None,
) -> ModelDetailOut:
    """Upload a model: `.onnx`, an archive of an `.onnx` and its tensor files, or a `.pt2`, as the raw body.

    With `architecture`, the body is its weights, `.safetensors` or `.pth`. A JSON body asks for published weights.
    """
    if is_json(request):
        wanted = await json_body(request, NamedWeights)
        row = await run_in_threadpool(services.hub.add_model, caller.tenant, wanted, name=name, labels=labels)
    else:
        limit = services.settings.max_upload_bytes
        async with arrival(request, services.settings, name=name, labels=labels, limit=limit) as arrived:
            row = await run_in_threadpool(services.library.add_model, caller.tenant, arrived, architecture)
    shown = ModelDetailOut.of(row)
    response.headers["Location"] = f"/models/{shown.id}"
    return shown


@router.get("", operation_id="listModels", summary="List models", responses=problems(RequestInvalid))
def list_models(library: Library, caller: RequestCaller, wanted: Page, labels: LabelQuery) -> PageOut[ModelOut]:
    """List models, newest first."""
    rows, more = library.page(Model, caller.tenant, limit=wanted.limit, after=wanted.cursor("mdl"), labels=labels)
    return PageOut.of([ModelOut.of(row) for row in rows], more=more)


@router.get("/{model_id}", operation_id="getModel", summary="Get a model", responses=problems(NotFound))
def get_model(library: Library, caller: RequestCaller, model_id: str) -> ModelDetailOut:
    """Look at a model: its signature, parameters and operators, and what a worker found in it."""
    return ModelDetailOut.of(library.get(Model, caller.tenant, model_id))


@router.get(
    "/{model_id}/compatibility",
    operation_id="getModelCompatibility",
    summary="Get a model's compatibility with targets",
    responses=problems(NotFound, TargetUnknown)
    | {202: {"model": CompatibilitiesOut, "description": "A worker is finding out."}},
)
def get_model_compatibility(
    response: Response, services: Services, caller: RequestCaller, model_id: str, target: TargetQuery = None
) -> CompatibilitiesOut:
    """Tell what targets make of a model's operators, asked of the runtimes themselves before any job is queued.

    A worker looks once for each format and model; until it has, the answer is 202, and `Retry-After` says when to ask
    again.
    """
    known = services.compatibility.of(caller.tenant, model_id, named(target))
    if any(table.status == "pending" for table in known):
        response.status_code = 202
        response.headers["Retry-After"] = "2"
    return CompatibilitiesOut(data=[CompatibilityOut.of(table) for table in known])


@router.head("/{model_id}/content", include_in_schema=False)
@router.get(
    "/{model_id}/content",
    response_class=Response,
    operation_id="downloadModel",
    summary="Download a model",
    responses=BINARY_ANSWER | problems(NotFound),
)
def download_model(request: Request, services: Services, caller: RequestCaller, model_id: str) -> Response:
    """Download the file as it was uploaded."""
    row = services.library.get(Model, caller.tenant, model_id)
    return content(request, services.store, services.settings, StoredFile.of(row))


@router.delete(
    "/{model_id}",
    status_code=204,
    operation_id="deleteModel",
    summary="Delete a model",
    responses=problems(NotFound, InUse),
)
def delete_model(library: Library, caller: RequestCaller, model_id: str) -> None:
    """Delete a model that no unfinished job reads. Finished jobs keep their results."""
    library.delete(Model, caller.tenant, model_id)
