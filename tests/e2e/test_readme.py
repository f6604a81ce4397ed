"""What the README shows works, to the letter but for the port."""

import re
import sys
from pathlib import Path

import onnxruntime
import pytest

from tests.support.installation.pages import BASE_URL, run
from tests.support.installation.serving import Stack
from tests.support.root import ROOT

README = (ROOT / "README.md").read_text()


@pytest.fixture
def folder(tmp_path: Path, digits: Path) -> Path:
    """An empty folder but for `files`, made by examples/digits.py."""
    (tmp_path / "files").symlink_to(digits)
    return tmp_path


def snippet(name: str, stack: Stack) -> str:
    found = re.search(rf"<!-- tested: {name} -->\n\s*```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, name
    return found.group(1).replace(BASE_URL, stack.client.url)


def test_the_job_in_curl(stack: Stack, folder: Path) -> None:
    printed = run(["bash", "-eo", "pipefail", "-c", snippet("curl", stack)], folder)

    assert "event: progress" in printed
    assert "# digits to int8" in printed
    delivered = folder / "digits-int8.onnx"
    assert delivered.stat().st_size < 0.30 * (folder / "files" / "digits.onnx").stat().st_size
    assert onnxruntime.InferenceSession(delivered, providers=["CPUExecutionProvider"]).get_inputs()[0].name == "image"


def test_the_job_in_python(stack: Stack, folder: Path) -> None:
    printed = run([sys.executable, "-c", snippet("python", stack)], folder)

    assert printed.startswith("improved\n")
