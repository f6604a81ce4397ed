"""Artifacts: look and download."""

from fastapi import APIRouter, Request, Response

from app.api.content import StoredFile, content
from app.api.deps import Jobs, RequestCaller, Services
from app.api.openapi import BINARY_ANSWER
from app.api.problems import problems
from app.api.resources import ArtifactOut
from app.ids import NotFound

router = APIRouter(prefix="/artifacts", tags=["artifacts"])


@router.get("/{artifact_id}", operation_id="getArtifact", summary="Get an artifact", responses=problems(NotFound))
def get_artifact(jobs: Jobs, caller: RequestCaller, artifact_id: str) -> ArtifactOut:
    """Look at an artifact."""
    return ArtifactOut.of(jobs.artifact(caller.tenant, artifact_id))


@router.head("/{artifact_id}/content", include_in_schema=False)
@router.get(
    "/{artifact_id}/content",
    response_class=Response,
    operation_id="downloadArtifact",
    summary="Download an artifact",
    responses=BINARY_ANSWER | problems(NotFound),
)
def download_artifact(
    request: Request, jobs: Jobs, services: Services, caller: RequestCaller, artifact_id: str
) -> Response:
    """Download an artifact; its ETag is its SHA-256, ranges are honoured."""
    row = jobs.artifact(caller.tenant, artifact_id)
    return content(request, services.store, services.settings, StoredFile.of(row))
