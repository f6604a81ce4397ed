"""Every kind of device of the contract with the way to try an artifact on it."""

from collections.abc import Callable
from typing import Any

from app.spec.device_report import DeviceRun
from app.spec.devices import AgentDevice, EmulatedDevice, EstimatedDevice, LocalDevice
from worker.engine.devices.agent import run_on_agent
from worker.engine.devices.emulated import run_emulated
from worker.engine.devices.estimated import estimate
from worker.engine.devices.local import run_locally
from worker.engine.devices.trial import Trial

RunOn = Callable[[Any, Trial], DeviceRun]

DEVICES: dict[type, RunOn] = {
    AgentDevice: run_on_agent,
    EmulatedDevice: run_emulated,
    EstimatedDevice: estimate,
    LocalDevice: run_locally,
}
