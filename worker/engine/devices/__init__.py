"""One file per kind of device: runs an artifact there, or computes what it would take there."""

from collections.abc import Callable
from typing import Any, TypeVar

from app.spec.device_report import DeviceRun
from worker.engine.devices.trial import Trial

RunOn = Callable[[Any, Trial], DeviceRun]
IMPLEMENTATIONS: dict[type, RunOn] = {}
T = TypeVar("T")


def runs_on(device: type[T]) -> Callable[[Callable[[T, Trial], DeviceRun]], Callable[[T, Trial], DeviceRun]]:
    """Register a function as the way to try artifacts on a kind of device; each has exactly one."""

    def register(function: Callable[[T, Trial], DeviceRun]) -> Callable[[T, Trial], DeviceRun]:
        if device in IMPLEMENTATIONS:
            raise ValueError(f"{device.__name__} is implemented twice")
        IMPLEMENTATIONS[device] = function
        return function

    return register


def implementations() -> dict[type, RunOn]:
    """By kind of device."""
    # Imported here, because each registers itself with this module.
    from worker.engine.devices import agent, emulated, estimated, local  # noqa: F401

    return IMPLEMENTATIONS
