"""What this installation can do."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.deps import Services
from app.services import catalogue
from app.spec.devices import Provenance
from app.spec.devices.published import Source, published

router = APIRouter(tags=["catalogue"])


class TechniqueOut(BaseModel):
    """A step: what it does, what it needs, and its parameters as JSON Schema."""

    type: str
    summary: str
    needs: dict[str, bool]
    parameters: dict[str, Any]


class TargetOut(BaseModel):
    """A format that can be delivered, its parameters as JSON Schema, and the live workers that can deliver it.

    `toolchain`: what converts and runs it, in an environment of its own. `install`: the command to run on a worker
    that lacks it; null where every live worker has it.
    """

    format: str
    summary: str
    parameters: dict[str, Any]
    toolchain: str | None
    workers: list[str]
    install: str | None


class DeviceOut(BaseModel):
    """A kind of device for `evaluate.devices`: where its figures come from, its parameters as JSON Schema.

    `workers`: the live ones that can try an artifact there. `install`: the command to run on a worker that lacks what
    it takes; null where every live worker has it.
    """

    type: str
    summary: str
    provenance: Provenance
    parameters: dict[str, Any]
    toolchain: str | None
    workers: list[str]
    install: str | None


class EstimatedOut(BaseModel):
    """A device whose latency can be estimated: what bounds it, and the published latencies that it is estimated from.

    `threads`: those that have figures. `networks`: by the number of threads, in milliseconds at batch 1.
    """

    id: str
    title: str
    processor: str
    kind: Literal["cpu", "gpu"]
    threads: list[int]
    networks: dict[int, dict[str, float]]
    sources: list[Source]


class WorkerOut(BaseModel):
    """A live worker: its queue, processors, the jail its jobs run in, toolchains and versions."""

    worker: str
    queue: str
    facts: dict[str, Any]
    seen_at: datetime


@router.get("/techniques", operation_id="listTechniques", summary="List techniques")
def list_techniques() -> list[TechniqueOut]:
    """List the steps a job may take."""
    return [TechniqueOut.model_validate(step, from_attributes=True) for step in catalogue.techniques()]


@router.get("/targets", operation_id="listTargets", summary="List targets")
def list_targets(services: Services) -> list[TargetOut]:
    """List the formats a job may deliver, and which workers can."""
    return [TargetOut.model_validate(target, from_attributes=True) for target in catalogue.targets(services.database)]


@router.get("/devices", operation_id="listDevices", summary="List kinds of devices")
def list_devices(services: Services) -> list[DeviceOut]:
    """List the kinds of devices that `evaluate.devices` may name, and which workers can try artifacts there."""
    return [DeviceOut.model_validate(kind, from_attributes=True) for kind in catalogue.devices(services.database)]


@router.get("/devices/estimated", operation_id="listEstimatedDevices", summary="List devices with estimates")
def list_estimated_devices() -> list[EstimatedOut]:
    """List the devices whose latency can be estimated, with the published latencies and their sources."""
    figures = published()
    return [
        EstimatedOut(
            id=device.id,
            title=device.title,
            processor=device.processor,
            kind=device.kind,
            threads=list(device.threads),
            networks={run.threads: run.latency_ms for run in device.runs},
            sources=[figures.sources[name] for name in dict.fromkeys(run.source for run in device.runs)],
        )
        for device in figures.devices
    ]


@router.get("/workers", operation_id="listWorkers", summary="List live workers")
def list_workers(services: Services) -> list[WorkerOut]:
    """List the live workers and what they run on."""
    return [
        WorkerOut(worker=row.id, queue=row.queue, facts=row.facts, seen_at=row.seen_at)
        for row in catalogue.live_workers(services.database)
    ]
