"""What this installation can do: techniques, targets, devices."""

from dataclasses import dataclass
from typing import Any, get_args

from app.db import workers
from app.db.database import Database
from app.db.tables import Worker
from app.spec.base import Step
from app.spec.job import AnyStep
from app.spec.target import OnnxTarget

STEPS: tuple[type[Step], ...] = get_args(get_args(AnyStep)[0])
TARGETS = (OnnxTarget,)


@dataclass(frozen=True)
class Entry:
    """A step or target: its name, what it does, what it needs, and its parameters as JSON Schema."""

    name: str
    summary: str
    needs: dict[str, bool]
    parameters: dict[str, Any]


def techniques() -> list[Entry]:
    """List the steps a job may take."""
    return [
        Entry(step.model_fields["type"].default, _summary(step), step.needs.model_dump(), step.model_json_schema())
        for step in STEPS
    ]


def targets() -> list[Entry]:
    """List the formats a job may deliver."""
    return [
        Entry(target.model_fields["format"].default, _summary(target), {}, target.model_json_schema())
        for target in TARGETS
    ]


def live_workers(database: Database) -> list[Worker]:
    """Fetch the workers heard of lately, with their devices."""
    with database.read() as session:
        return list(workers.alive(session))


def _summary(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
