"""Every kind of device that a job may name has exactly one implementation."""

from typing import get_args

import pytest

from app.spec.devices import DEVICES, Device, LocalDevice
from worker.engine import devices


def test_every_kind_has_one_implementation() -> None:
    declared = set(get_args(get_args(Device)[0]))

    assert set(devices.implementations()) == declared == set(DEVICES)
    with pytest.raises(ValueError, match="implemented twice"):
        devices.runs_on(LocalDevice)(lambda device, trial: trial)  # type: ignore[arg-type, return-value]
