"""`evaluate.devices`: every artifact is tried on every device; one that fails is a cell with its reason."""

from pathlib import Path

import pytest

from app.spec.devices import LocalDevice
from app.spec.report import Report
from tests.support.engine.digits_jobs import matrix
from worker.engine.devices import local
from worker.engine.devices import table as devices
from worker.engine.devices.trial import Trial


def test_this_worker_is_timed_and_described(digits_folder: Path, tmp_path: Path) -> None:
    report = matrix(digits_folder, tmp_path, {"type": "local"})

    (target,) = report.targets
    (cell,) = target.devices
    assert cell.provenance == "measured"
    assert cell.latency is not None
    assert cell.latency.runs >= 20
    assert (cell.threads, cell.batch) == (1, 1)
    assert cell.metrics == target.metrics
    assert cell.agreement_original == target.parity[0].top1_agreement
    assert cell.size_bytes == target.size.after_bytes
    assert cell.fallback == {}, "every layer of the digits network is an integer kernel"
    assert cell.facts.cpu_flags == report.machine.cpu_flags
    assert cell.facts.load_average is not None
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_speed_is_that_of_the_target_s_own_machine_alone(digits_folder: Path, tmp_path: Path) -> None:
    report = matrix(digits_folder, tmp_path, {"type": "local"}, targets=[{"format": "onnx", "profile": "tensorrt"}])

    (cell,) = report.targets[0].devices
    assert cell.latency is None
    assert "not what onnx/tensorrt is for" in cell.notes[0]


def test_more_threads_than_cores_are_not_timed(digits_folder: Path, tmp_path: Path) -> None:
    report = matrix(digits_folder, tmp_path, {"type": "local"}, {"type": "local", "threads": 256})

    one, many = report.targets[0].devices
    assert one.threads == 1
    assert many.threads == many.facts.cores
    assert "256 were asked for" in many.notes[0]


def test_a_device_that_fails_stops_nothing(
    digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = devices.DEVICES[LocalDevice]

    def fails_on_two_threads(device: LocalDevice, trial: Trial) -> object:
        if device.threads == 2:
            raise RuntimeError("it burns")
        return once(device, trial)

    monkeypatch.setitem(devices.DEVICES, LocalDevice, fails_on_two_threads)
    report = matrix(digits_folder, tmp_path, {"type": "local", "threads": 2}, {"type": "local"})

    broken, sound = report.targets[0].devices
    assert broken.failure is not None
    assert broken.failure.code == "device.failed"
    assert sound.latency is not None


def test_the_governor_is_what_the_system_says(tmp_path: Path) -> None:
    path = tmp_path / "scaling_governor"
    path.write_text("schedutil\n")

    assert local.governor(path) == "schedutil"
    assert local.governor(tmp_path / "absent") is None
