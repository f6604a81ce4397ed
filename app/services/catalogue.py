"""What this installation can do: techniques, targets, devices."""

from dataclasses import dataclass
from typing import Any, get_args

from app.db import workers
from app.db.database import Database
from app.db.tables import Worker
from app.spec.base import Step
from app.spec.job import AnyStep
from app.spec.targets import TARGETS, AnyTarget, ToolchainName

STEPS: tuple[type[Step], ...] = get_args(get_args(AnyStep)[0])


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


@dataclass(frozen=True)
class Delivery:
    """A format that can be delivered: its parameters as JSON Schema, and what of the installation it needs."""

    format: str
    summary: str
    parameters: dict[str, Any]
    toolchain: ToolchainName | None
    workers: tuple[str, ...]
    """The live workers that can deliver it."""
    install: str | None
    """The command that makes a worker able to, where some live worker is not."""


def targets(database: Database) -> list[Delivery]:
    """List the formats a job may deliver, and which workers can."""
    alive = live_workers(database)
    return [_delivery(target, alive) for target in TARGETS]


def _delivery(target: type[AnyTarget], alive: list[Worker]) -> Delivery:
    name = target.toolchain
    able = tuple(row.id for row in alive if name is None or name in row.facts.get("toolchains", ()))
    install = None if name is None or len(able) == len(alive) > 0 else f"python -m worker toolchains install {name}"
    summary, schema = _summary(target), target.model_json_schema()
    return Delivery(target.model_fields["format"].default, summary, schema, name, able, install)


def live_workers(database: Database) -> list[Worker]:
    """Fetch the workers heard of lately, with their devices."""
    with database.read() as session:
        return list(workers.alive(session))


def _summary(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
