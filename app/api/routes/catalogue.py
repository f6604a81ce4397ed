"""What this installation can do."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.deps import Parts
from app.services import catalogue

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
    """A live worker: its queue, devices, the jail its jobs run in, and versions."""

    worker: str
    queue: str
    facts: dict[str, Any]
    seen_at: datetime


@router.get("/techniques", operation_id="listTechniques")
def techniques() -> list[TechniqueOut]:
    """List the steps a job may take."""
    return [
        TechniqueOut(type=one.name, summary=one.summary, needs=one.needs, parameters=one.parameters)
        for one in catalogue.techniques()
    ]


@router.get("/targets", operation_id="listTargets")
def targets(parts: Parts) -> list[TargetOut]:
    """List the formats a job may deliver, and which workers can."""
    return [TargetOut.model_validate(one, from_attributes=True) for one in catalogue.targets(parts.database)]


@router.get("/devices", operation_id="listDevices")
def devices(parts: Parts) -> list[DeviceOut]:
    """List the live workers and what they run on."""
    return [
        DeviceOut(worker=row.id, queue=row.queue, facts=row.facts, seen_at=row.seen_at)
        for row in catalogue.live_workers(parts.database)
    ]
