"""A worker without emulators delivers all the same; the cell says what to install."""

from pathlib import Path

from tests.engine.test_job import FAST, order_for
from tests.targets.conftest import finished
from worker.engine.environments import Environments
from worker.runtime.supervise import Workshop


def test_emulators_that_are_missing_are_a_cell_with_a_remedy(digits_folder: Path, tmp_path: Path) -> None:
    directory = tmp_path / "job"
    directory.mkdir()
    evaluate = FAST | {"devices": [{"type": "emulated", "cpu": "cortex-a53"}, {"type": "local"}]}
    order = order_for(directory, digits_folder, "digits.onnx", evaluate=evaluate)
    nothing = Environments(tmp_path / "nothing")
    with Workshop(tmp_path / "room", sandbox="best-effort", threads=1, environments=nothing) as workshop:
        job = finished(workshop, order, directory)

    missing, local = job.target("onnx/x86").devices
    assert missing.failure is not None
    assert missing.failure.code == "toolchain.missing"
    assert "toolchains install" in missing.failure.remedy
    assert local.failure is None
