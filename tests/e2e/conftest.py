"""One suite, two stacks: the tests speak HTTP and do not know which one they were given."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import digits as example
from tests.support.export_cache import cached, key_of
from tests.support.files import npz_bytes, onnx_classifier
from tests.support.installation.client import Client
from tests.support.installation.jobs import DIGITS_SPLITS, TINY_SPLITS, heavy_classifier
from tests.support.installation.service import environment
from tests.support.installation.serving import STACKS, Stack
from tests.support.root import ROOT


@pytest.fixture(scope="package", params=["embedded", pytest.param("real", marks=pytest.mark.real_stack)])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running installation with one worker."""
    with STACKS[request.param](request, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="package")
def client(stack: Stack) -> Client:
    return stack.client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    running = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(running, Stack):
        report.sections.append(("logs of the services", running.installation.logs()))
    return report


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits.onnx, digits.pt2 and digits.npz, as examples/digits.py writes them."""
    made = cached(key_of(example, _run_example), _run_example)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("digits"), dirs_exist_ok=True))


def _run_example(folder: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "examples" / "digits.py", folder],
        check=True,
        capture_output=True,
        env=environment({}),
        cwd=folder,
    )


@pytest.fixture(scope="package")
def digits_model(client: Client, digits: Path) -> str:
    return client.upload_model((digits / "digits.onnx").read_bytes(), "digits")


@pytest.fixture(scope="package")
def digits_data(client: Client, digits: Path) -> str:
    return client.upload_dataset((digits / "digits.npz").read_bytes(), DIGITS_SPLITS, "digits")


@pytest.fixture(scope="package")
def tiny_model(client: Client) -> str:
    return client.upload_model(onnx_classifier(), "tiny")


@pytest.fixture(scope="package")
def tiny_data(client: Client) -> str:
    return client.upload_dataset(npz_bytes(), TINY_SPLITS)


@pytest.fixture(scope="package")
def heavy_model(client: Client) -> str:
    """A model whose measurement can be made to last."""
    return client.upload_model(heavy_classifier(), "heavy")
