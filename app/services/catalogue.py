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
class Technique:
    """A step that a job may take: what it does, what it needs, and its parameters as JSON Schema."""

    type: str
    summary: str
    needs: dict[str, bool]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Served:
    """What a job may name and a worker must be able to do: its parameters as JSON Schema, and who can."""

    summary: str
    parameters: dict[str, Any]
    toolchain: ToolchainName | None
    workers: tuple[str, ...]
    """The live workers that can."""
    install: str | None
    """The command that makes a worker able to, where some live worker is not."""


@dataclass(frozen=True)
class TargetKind(Served):
    """A format that can be delivered."""

    format: str


@dataclass(frozen=True)
class DeviceKind(Served):
    """A kind of device on which artifacts are tried."""

    type: str
    provenance: Provenance


def techniques() -> list[Technique]:
    """List the steps a job may take."""
    return [Technique(step.kind(), _summary(step), step.needs.model_dump(), step.model_json_schema()) for step in STEPS]


def targets(database: Database) -> list[TargetKind]:
    """List the formats a job may deliver, and which workers can."""
    alive = live_workers(database)
    return [TargetKind(**_served(target, alive), format=target.kind()) for target in TARGETS]


def devices(database: Database) -> list[DeviceKind]:
    """List the kinds of devices a job may name, and which workers can try artifacts on them."""
    alive = live_workers(database)
    return [
        DeviceKind(**_served(device, alive), type=device.kind(), provenance=device.provenance) for device in DEVICES
    ]


def _served(kind: type[AnyTarget | AnyDevice], alive: list[Worker]) -> dict[str, Any]:
    """The fields of `Served`. Every worker has the toolchain of what needs none."""
    toolchain = kind.toolchain
    able = tuple(row.id for row in alive if toolchain is None or toolchain in row.facts.get("toolchains", ()))
    lacking = toolchain is not None and (not alive or len(able) < len(alive))
    return {
        "summary": _summary(kind),
        "parameters": kind.model_json_schema(),
        "toolchain": toolchain,
        "workers": able,
        "install": f"python -m worker toolchains install {toolchain}" if lacking else None,
    }


def live_workers(database: Database) -> list[Worker]:
    """Fetch the workers heard of lately, with their devices."""
    with database.read() as session:
        return list(workers.alive(session))


def _summary(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
