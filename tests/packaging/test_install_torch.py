"""docker/install_torch.py with pip itself, in an environment of its own, against a package index on this machine."""

import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pip
import pytest

from tests.support.root import ROOT

SCRIPT = ROOT / "docker" / "install_torch.py"
PIN = "torch==2.13.0"
CUDA_LIBRARY = "Requires-Dist: nvidia-cudnn ; sys_platform == '{}'\n"
CPU_WHEEL, PLAIN_WHEEL, CUDA_WHEEL = "2.13.0+cpu", "2.13.0", "2.13.0+cu130"


@dataclass
class Index:
    """A package index, and what was fetched of it."""

    folder: Path
    metadata: dict[str, str] = field(default_factory=dict)
    """By the name of a wheel; its `.metadata` is served beside it (PEP 658)."""
    fetched: list[str] = field(default_factory=list)
    url: str = ""

    def add(self, version: str, requires: str = "", name: str = "torch") -> None:
        """Publish a wheel that needs what these lines of its metadata say."""
        wheel = f"{name}-{version}-py3-none-any.whl"
        self.metadata[wheel] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(self.folder / wheel, "w") as archive:
            archive.writestr(f"{info}/METADATA", self.metadata[wheel])
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")

    def answer(self, path: str) -> bytes | None:
        """The body for a path; None if there is nothing."""
        name = path.rpartition("/")[2].replace("%2B", "+")
        if path.startswith("/simple/") and path.endswith("/"):
            project = path.split("/")[2].replace("-", "_")
            links = [
                f'<a href="/{wheel}" data-core-metadata="true">{wheel}</a>'
                for wheel in self.metadata
                if wheel.startswith(f"{project}-")
            ]
            return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()
        if name.removesuffix(".metadata") in self.metadata:
            self.fetched.append(name)
            wheel = self.folder / name
            return wheel.read_bytes() if wheel.exists() else self.metadata[name.removesuffix(".metadata")].encode()
        return None


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    served = Index(tmp_path)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.answer(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}/simple"
        yield served
        server.shutdown()


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An environment's Python, which has nothing but the pip that runs these tests."""
    if tuple(int(part) for part in pip.__version__.split(".")[:2]) < (23, 3):
        pytest.skip(f"SKIPPED install_torch: pip {pip.__version__} fetches wheels to look into them; run `make setup`")
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip").symlink_to(Path(pip.__file__).parent)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    return tmp_path / "venv" / "bin" / "python"


def install(python: Path, *arguments: str, **pip_settings: str) -> subprocess.CompletedProcess[str]:
    """Run the script; its pip knows these settings by its environment, as a user's does, and no index by itself."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    found = {"PIP_CONFIG_FILE": os.devnull, "PYTHONPATH": str(python.parents[2] / "pip")}
    return subprocess.run(
        [python, SCRIPT, PIN, *arguments],
        env=environment | found | (pip_settings or {"PIP_NO_INDEX": "1"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def wheels(index: Index) -> list[str]:
    return [name.split("-")[1] for name in index.fetched if name.endswith(".whl")]


def test_of_two_builds_the_cpus_is_taken(index: Index, python: Path) -> None:
    index.add(PLAIN_WHEEL, CUDA_LIBRARY.format(sys.platform))
    index.add(CPU_WHEEL)
    index.add(CUDA_WHEEL, CUDA_LIBRARY.format(sys.platform))
    ran = install(python, PIP_INDEX_URL=index.url)
    assert ran.stdout == "torch 2.13.0+cpu (cpu)\n", ran.stderr
    assert wheels(index) == [CPU_WHEEL]


def test_where_only_cuda_is_offered_it_is_taken_with_a_hint(index: Index, python: Path) -> None:
    index.add(PLAIN_WHEEL, CUDA_LIBRARY.format(sys.platform))
    index.add("9.1", name="nvidia_cudnn")
    ran = install(python, PIP_INDEX_URL=index.url)
    assert ran.stdout == "torch 2.13.0 (cuda)\n", ran.stderr
    assert "a CUDA build alone" in ran.stderr
    assert "TORCH_INDEX=URL" in ran.stderr


def test_a_cpu_build_that_is_insisted_on_and_not_offered_ends_before_anything_is_fetched(
    index: Index, python: Path
) -> None:
    index.add(PLAIN_WHEEL, CUDA_LIBRARY.format(sys.platform))
    ran = install(python, "cpu", PIP_INDEX_URL=index.url)
    assert ran.returncode == 1
    assert "nothing was fetched" in ran.stderr
    assert "TORCH_INDEX=URL" in ran.stderr
    assert index.fetched == [f"torch-{PLAIN_WHEEL}-py3-none-any.whl.metadata"]


@pytest.mark.parametrize("requires", ["", CUDA_LIBRARY.format("another-platform")])
def test_a_plain_build_without_cuda_is_taken(index: Index, python: Path, requires: str) -> None:
    """As on macOS, and on Linux where an index has CPU builds under the plain version."""
    index.add(PLAIN_WHEEL, requires)
    ran = install(python, PIP_INDEX_URL=index.url)
    assert ran.stdout == "torch 2.13.0 (cpu)\n", ran.stderr


@pytest.mark.parametrize("beside", [(), (CPU_WHEEL,)])
def test_cuda_is_taken_where_it_is_asked_for(index: Index, python: Path, beside: tuple[str, ...]) -> None:
    for version in beside:
        index.add(version)
    index.add(PLAIN_WHEEL, CUDA_LIBRARY.format("another-platform") + CUDA_LIBRARY.format(sys.platform))
    index.add("9.1", name="nvidia_cudnn")
    ran = install(python, "cuda", PIP_INDEX_URL=index.url)
    assert ran.stdout == "torch 2.13.0 (cuda)\n", ran.stderr
    assert wheels(index) == [PLAIN_WHEEL, "9.1"]


def test_cuda_that_is_not_offered_is_not_replaced(index: Index, python: Path) -> None:
    index.add(CPU_WHEEL)
    ran = install(python, "cuda", PIP_INDEX_URL=index.url)
    assert ran.returncode == 1
    assert "CUDA version" in ran.stderr
    assert wheels(index) == []


def test_what_is_installed_stays_and_needs_no_index(index: Index, python: Path) -> None:
    index.add(CUDA_WHEEL)
    assert install(python, "cuda", PIP_INDEX_URL=index.url).stdout == "torch 2.13.0+cu130 (cuda)\n"
    assert install(python).stdout == "torch 2.13.0+cu130 (cuda)\n"
    assert install(python, "cpu").returncode == 1


def test_the_index_for_torch_is_the_one_that_is_given(index: Index, python: Path) -> None:
    index.add(CPU_WHEEL)
    assert install(python, "--index", index.url).returncode == 1  # told to use none at all
    ran = install(python, "--index", index.url, PIP_INDEX_URL="http://127.0.0.1:9/nothing")
    assert ran.stdout == "torch 2.13.0+cpu (cpu)\n", ran.stderr


def test_a_folder_of_wheels_is_enough(index: Index, python: Path) -> None:
    index.add(CPU_WHEEL)
    ran = install(python, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index.folder))
    assert ran.stdout == "torch 2.13.0+cpu (cpu)\n", ran.stderr


def test_no_torch_anywhere_says_what_pip_said(index: Index, python: Path) -> None:
    ran = install(python, PIP_INDEX_URL=index.url)
    assert ran.returncode == 1
    assert "No matching distribution found for torch==2.13.0" in ran.stderr
