"""What this installation can do: techniques, targets, devices."""

from dataclasses import dataclass
from typing import Any

from app.db import workers
from app.db.database import Database
from app.db.tables import Worker
from app.spec.devices import DEVICES, AnyDevice, Provenance
from app.spec.steps import STEPS
from app.spec.targets import TARGETS, AnyTarget, ToolchainName


@dataclass(frozen=True)
class Entry:
    """A step or target: its name, what it does, what it needs, and its parameters as JSON Schema."""

    name: str
    summary: str
    needs: dict[str, bool]
    parameters: dict[str, Any]


def techniques() -> list[Entry]:
    """List the steps a job may take."""
    return [Entry(step.kind(), _summary(step), step.needs.model_dump(), step.model_json_schema()) for step in STEPS]


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
    able, install = _able(target.toolchain, alive)
    summary, schema = _summary(target), target.model_json_schema()
    return Delivery(target.kind(), summary, schema, target.toolchain, able, install)


@dataclass(frozen=True)
class DeviceKind:
    """A kind of device on which artifacts are tried."""

    type: str
    summary: str
    provenance: Provenance
    parameters: dict[str, Any]
    toolchain: ToolchainName | None
    workers: tuple[str, ...]
    """The live workers that can try an artifact there."""
    install: str | None


def devices(database: Database) -> list[DeviceKind]:
    """List the kinds of devices a job may name, and which workers can try artifacts on them."""
    alive = live_workers(database)
    return [_device(kind, alive) for kind in DEVICES]


def _device(kind: type[AnyDevice], alive: list[Worker]) -> DeviceKind:
    able, install = _able(kind.toolchain, alive)
    name, summary, schema = kind.kind(), _summary(kind), kind.model_json_schema()
    return DeviceKind(name, summary, kind.provenance, schema, kind.toolchain, able, install)


def _able(name: ToolchainName | None, alive: list[Worker]) -> tuple[tuple[str, ...], str | None]:
    """The workers that have a toolchain, and the command for those that lack it; all have what is None."""
    able = tuple(row.id for row in alive if name is None or name in row.facts.get("toolchains", ()))
    lacking = name is not None and (not alive or len(able) < len(alive))
    return able, f"python -m worker toolchains install {name}" if lacking else None


def live_workers(database: Database) -> list[Worker]:
    """Fetch the workers heard of lately, with their devices."""
    with database.read() as session:
        return list(workers.alive(session))


def _summary(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
