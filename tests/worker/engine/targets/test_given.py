"""What was delivered earlier is opened on its own runtime, and compared with the original again."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from app.spec.report import ArtifactOrigin
from app.spec.targets import TARGETS
from app.spec.work import GivenArtifact, GivenFile
from tests.support.engine.digits_jobs import order_for
from tests.support.target_jobs import Done, finished
from worker.runtime.job_sandbox import JobSandbox

ORIGIN = ArtifactOrigin(artifact="art_" + "1" * 32, job="job_" + "1" * 32, job_name="first")
STATIC = {"type": "quantize.static"}
CASES: list[tuple[dict[str, str], list[dict[str, str]]]] = [
    ({"format": "onnx", "profile": "tensorrt"}, [STATIC]),
    ({"format": "openvino"}, [STATIC]),
    ({"format": "executorch"}, [STATIC]),
    ({"format": "triton"}, [STATIC]),
    *(({"format": kind.kind()}, []) for kind in TARGETS),
]


def case(target: dict[str, str], steps: list[dict[str, str]]) -> ParameterSet:
    """A target and the steps before it, marked with the toolchain that the target needs."""
    toolchain = next(kind.toolchain for kind in TARGETS if kind.kind() == target["format"])
    name = "-".join([target["format"], *(step["type"] for step in steps)])
    return pytest.param(target, steps, id=name, marks=[pytest.mark.toolchain(toolchain)] if toolchain else [])


@pytest.mark.parametrize(("target", "steps"), [case(*each) for each in CASES])
def test_a_delivered_artifact_is_measured_as_it_was(
    target: dict[str, str],
    steps: list[dict[str, str]],
    done: Callable[..., Done],
    job_sandbox: JobSandbox,
    digits_folder: Path,
    tmp_path: Path,
) -> None:
    first = done(steps=steps, targets=[target], evaluate={"latency": {"runs": 20, "budget_s": 1}})
    (delivered,) = first.report.targets
    directory = tmp_path / "again"
    (directory / "artifact-0").mkdir(parents=True)
    files = [one.file for one in first.result.artifacts if one.kind == "model"]
    for name in files:
        shutil.copy(first.folder / name, directory / "artifact-0" / name)
    given = GivenArtifact(
        origin=ORIGIN,
        target=delivered.target,
        files=tuple(GivenFile(path=f"artifact-0/{name}", sha256=digest(first.folder / name)) for name in files),
    )
    devices = [{"type": "local"}]
    order = order_for(
        directory,
        digits_folder,
        "digits.pt2",
        targets=[target],
        evaluate={"latency": {"runs": 20, "budget_s": 1}, "devices": devices},
    ).model_copy(update={"artifacts": (given,)})

    (again,) = (result := finished(job_sandbox, order, directory)).report.targets

    assert result.result.artifacts == ()
    assert again.origin == ORIGIN
    for section in ("sha256", "size", "metrics", "parity", "placement", "status", "runtime"):
        assert getattr(again, section) == getattr(delivered, section), section
    (cell,) = again.devices
    assert cell.failure is None
    assert (cell.latency is not None) == (again.latency != ())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
