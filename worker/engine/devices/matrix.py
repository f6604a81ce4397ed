"""Tries one artifact on every device of a job; one that fails stops no other."""

import traceback

from app.errors import PareError
from app.spec.device_report import DeviceRun
from app.spec.devices import Device
from app.spec.failure import Failure
from worker.engine.devices.errors import DeviceFailed
from worker.engine.devices.table import DEVICES
from worker.engine.devices.trial import Trial


def try_devices(trial: Trial) -> tuple[DeviceRun, ...]:
    """One cell of the matrix for each of `evaluate.devices`, in their order."""
    devices, progress = trial.comparison.evaluate.devices, trial.comparison.progress
    cells = []
    for position, device in enumerate(devices):
        progress.advance(position / len(devices), f"on {device.title}")
        cells.append(_tried(device, trial))
    return tuple(cells)


def _tried(device: Device, trial: Trial) -> DeviceRun:
    try:
        return DEVICES[type(device)](device, trial)
    except MemoryError:
        raise  # it is the job's, not the device's
    except Exception as error:  # noqa: BLE001  # libraries raise what they like, and other devices go on
        known = error if isinstance(error, PareError) else _unforeseen(error, trial)
        target = trial.comparison.target.label
        trial.comparison.progress.log(f"{target} has no figures for {device.label}: {known.detail}", "warning")
        return DeviceRun(
            device=device, provenance=device.provenance, size_bytes=trial.size_bytes, failure=Failure.of(known)
        )


def _unforeseen(error: Exception, trial: Trial) -> DeviceFailed:
    trial.comparison.progress.log("".join(traceback.format_exception(error)), "warning")
    return DeviceFailed(f"It ended in {type(error).__name__}, of which the job's log has the place.")
