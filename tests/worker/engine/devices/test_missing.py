"""A worker without emulators delivers all the same; the cell says what to install."""

from pathlib import Path

from tests.support.engine.digits_jobs import FAST, order_for
from tests.support.target_jobs import finished
from worker.engine.toolchains.environments import Environments
from worker.runtime.job_sandbox import JobSandbox


def test_emulators_that_are_missing_are_a_cell_with_a_remedy(digits_folder: Path, tmp_path: Path) -> None:
    directory = tmp_path / "job"
    directory.mkdir()
    evaluate = FAST | {"devices": [{"type": "emulated", "cpu": "cortex-a53"}, {"type": "local"}]}
    order = order_for(directory, digits_folder, "digits.onnx", evaluate=evaluate)
    nothing = Environments(tmp_path / "nothing")
    with JobSandbox(tmp_path / "room", sandbox="best-effort", threads=1, environments=nothing) as job_sandbox:
        job = finished(job_sandbox, order, directory)

    missing, local = job.target("onnx/x86").devices
    assert missing.failure is not None
    assert missing.failure.code == "toolchain.missing"
    assert "toolchains install" in missing.failure.remedy
    assert local.failure is None
