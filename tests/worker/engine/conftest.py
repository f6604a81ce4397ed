"""Networks trained or exported once for all tests of the engine, and jobs on them in jailed children."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from app.spec.job import JobSpec
from app.spec.work import WorkOrder
from examples import digits
from tests.support.engine import zoo
from tests.support.engine.digits_jobs import FAST, MODEL, digits_rows, order_for
from tests.support.engine.orders import upload
from tests.support.export_cache import cached, key_of
from tests.support.networks import save_network
from tests.support.target_jobs import Done, finished
from tests.support.toolchains import ENVIRONMENTS
from worker.engine.data.rows import Rows
from worker.runtime.job_sandbox import JobSandbox


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits.onnx, digits.pt2 and digits.npz."""
    torch.set_num_threads(1)
    made = cached(key_of(digits), digits.write)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("digits"), dirs_exist_ok=True))


@pytest.fixture(scope="session")
def digits_calibration(digits_folder: Path) -> Rows:
    return digits_rows(digits_folder, "calibration")


@pytest.fixture(scope="session")
def digits_test(digits_folder: Path) -> Rows:
    return digits_rows(digits_folder, "test")


def _exported(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    folder = tmp_path_factory.mktemp(name)
    return zoo.export(zoo.resnet(name), folder / f"{name}.onnx", {"image": torch.zeros(2, 3, 64, 64)}, ["logits"])


@pytest.fixture(scope="session")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _exported(tmp_path_factory, "resnet18")


@pytest.fixture(scope="session")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _exported(tmp_path_factory, "resnet50")


@pytest.fixture(scope="session")
def photos() -> np.ndarray:
    """Eight images of noise, [8, 3, 64, 64]."""
    return np.random.default_rng(0).standard_normal((8, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="session")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    path = tmp_path_factory.mktemp("transformer") / "transformer.onnx"
    return zoo.export(zoo.TransformerBlock(), path, {"tokens": tokens}, ["logits"])


@pytest.fixture(scope="session")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recurrent") / "recurrent.onnx"
    return zoo.export(zoo.Recurrent(), path, {"series": torch.zeros(2, 12, 8)}, ["logits"])


@pytest.fixture(scope="session")
def two_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("two") / "two.onnx"
    examples = {"image": torch.zeros(2, 3, 16, 16), "facts": torch.zeros(2, 5)}
    return zoo.export(zoo.TwoInputs(), path, examples, ["score", "embedding"])


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
