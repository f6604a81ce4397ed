"""Where a delivered artifact is tried, one file per kind; `worker.engine.devices.table` has their implementations."""

from typing import TYPE_CHECKING, Annotated, Any

from app.spec.choices import OneOf
from app.spec.devices.agent import AgentDevice
from app.spec.devices.base import AnyDevice, Provenance
from app.spec.devices.emulated import EmulatedDevice
from app.spec.devices.estimated import EstimatedDevice
from app.spec.devices.local import LocalDevice

DEVICES: list[type[AnyDevice]] = [LocalDevice, EmulatedDevice, EstimatedDevice, AgentDevice]

if TYPE_CHECKING:
    Device = AnyDevice
else:  # pydantic takes it from the table; FastAPI would list an annotated base class in its document
    Device = Annotated[Any, OneOf(DEVICES)]

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
