"""Real jobs in jailed children, with the toolchains that are installed. One that is not skips its tests, loudly.

`PARE_TEST_TOOLCHAINS` names those that must be there, as in CI: without them the tests fail.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.spec.job import JobSpec
from app.spec.report import Report, TargetReport
from app.spec.targets import ToolchainName
from app.spec.work import WorkOrder, WorkResult
from tests.support.engine.orders import upload
from tests.support.networks import save_network
from tests.support.root import ROOT
from tests.worker.engine.conftest import DIGITS_SPEC, digits_folder, resnet18
from tests.worker.engine.test_job import FAST, MODEL, order_for
from worker.engine.toolchains.environments import Environments
from worker.runtime.child_protocol import LogLine
from worker.runtime.job_sandbox import JobSandbox, Limits, Listeners

__all__ = ["DIGITS_SPEC", "digits_folder", "resnet18"]

ENVIRONMENTS = Environments(Path(os.environ.get("PARE_TOOLCHAINS_DIR", ROOT / ".toolchains")))
LIMITS = Limits(wall_s=600, memory_bytes=8 << 30, file_bytes=4 << 30)


@dataclass(frozen=True)
class Done:
    """A finished job."""

    result: WorkResult
    folder: Path
    """Of its artifacts."""

    @property
    def report(self) -> Report:
        return self.result.report

    def target(self, label: str) -> TargetReport:
        (found,) = (target for target in self.report.targets if target.target.label == label)
        return found


@pytest.fixture(scope="session")
def job_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobSandbox]:
    with JobSandbox(
        tmp_path_factory.mktemp("job_sandbox"), sandbox="best-effort", threads=1, environments=ENVIRONMENTS
    ) as opened:
        yield opened


@pytest.fixture
def done(job_sandbox: JobSandbox, digits_folder: Path, tmp_path: Path) -> Callable[..., Done]:
    """Does a job on the digits network, given the model's file and parts of its spec."""

    def run(model: str = "digits.pt2", **spec: object) -> Done:
        directory = tmp_path / "job"
        directory.mkdir()
        return finished(job_sandbox, order_for(directory, digits_folder, model, **spec), directory)

    return run


@pytest.fixture
def of_network(job_sandbox: JobSandbox, tmp_path: Path) -> Callable[..., Done]:
    """Does a job without data on one of the `networks`, given its name and parts of the spec."""

    def run(name: str, **spec: object) -> Done:
        directory = tmp_path / name
        directory.mkdir()
        signature = save_network(name, directory / "model.pt2")
        job = JobSpec.model_validate({"model": MODEL, "evaluate": FAST, **spec})
        model = upload(directory, "model.pt2", signature)
        order = WorkOrder(job="job_1", attempt=1, spec=job, model=model, data={}, threads=1)
        return finished(job_sandbox, order, directory)

    return run


def finished(job_sandbox: JobSandbox, order: WorkOrder, directory: Path) -> Done:
    """Do an order whose files lie in `directory`."""
    (directory / "order.json").write_text(order.model_dump_json())
    lines: list[LogLine] = []
    outcome = job_sandbox.run(directory, LIMITS, Listeners(on_log=lines.append))
    assert isinstance(outcome, WorkResult), (outcome, [line.message for line in lines])
    return Done(outcome, directory / "out")


def toolchain(name: ToolchainName) -> None:
    """Skip the test's module unless the toolchain is installed; fail where it must be."""
    if ENVIRONMENTS.installed(name):
        return
    message = f"toolchain {name} is not installed: python -m worker toolchains install {name}"
    if name in os.environ.get("PARE_TEST_TOOLCHAINS", "").split():
        pytest.fail(f"MISSING {message}", pytrace=False)
    pytest.skip(f"SKIPPED targets: {message}")


def run_usage(folder: Path, name: ToolchainName, usage: str, ending: str) -> str:
    """Run the code of a USAGE.md with the toolchain's Python, in the artifact's folder, and `ending` after it."""
    code = (folder / usage).read_text().partition("```python\n")[2].partition("```")[0]
    python = ENVIRONMENTS.folder(name) / "bin" / "python"
    ran = subprocess.run(
        [python, "-I", "-c", code + ending], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()
