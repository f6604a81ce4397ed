"""Where a delivered artifact is tried, one file per kind; `worker.engine.devices.table` has their implementations."""

from typing import Annotated

from pydantic import Field

from app.spec.devices.agent import AgentDevice
from app.spec.devices.base import AnyDevice, Provenance
from app.spec.devices.emulated import EmulatedDevice
from app.spec.devices.estimated import EstimatedDevice
from app.spec.devices.local import LocalDevice

Device = Annotated[AgentDevice | EmulatedDevice | EstimatedDevice | LocalDevice, Field(discriminator="type")]
DEVICES: tuple[type[AnyDevice], ...] = (LocalDevice, EmulatedDevice, EstimatedDevice, AgentDevice)

__all__ = [
    "DEVICES",
    "AgentDevice",
    "AnyDevice",
    "Device",
    "EmulatedDevice",
    "EstimatedDevice",
    "LocalDevice",
    "Provenance",
]
