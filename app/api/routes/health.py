"""Is it alive, is it ready, how is it doing."""

from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app import __version__
from app.api.deps import Services
from app.services import health

router = APIRouter(tags=["service"])


class Live(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether jobs can be taken and worked on; `checks` says what is missing."""

    ready: bool
    checks: dict[str, str]
    queues: dict[str, list[dict[str, Any]]]


class Version(BaseModel):
    """What is running."""

    version: str


@router.get("/livez", operation_id="isAlive", summary="Check whether the process is alive")
async def is_alive() -> Live:
    """Answer that the process is alive; touches nothing."""
    return Live()


@router.get(
    "/readyz",
    operation_id="isReady",
    summary="Check whether the service is ready",
    responses={503: {"model": Ready, "description": "Not ready."}},
)
def is_ready(response: Response, services: Services) -> Ready:
    """Check database, broker, storage and the sweep, and list the live workers of each queue with their devices."""
    checks = health.checks(services.database, services.publisher, services.store, services.settings)
    fine = all(value == "ok" for value in checks.values())
    response.status_code = 200 if fine else 503
    return Ready(
        ready=fine, checks=checks, queues=health.queues(services.database) if checks["database"] == "ok" else {}
    )


@router.get("/metrics", operation_id="getMetrics", summary="Get metrics", response_class=PlainTextResponse)
def get_metrics(services: Services) -> Response:
    """Read counters and gauges in Prometheus' text format."""
    return Response(health.metrics(services.database), media_type=CONTENT_TYPE_LATEST)


@router.get("/version", operation_id="getVersion", summary="Get the version")
async def get_version() -> Version:
    """Say which version is running."""
    return Version(version=__version__)
