"""The Makefile and CI's script: run for real where nothing has to be installed, else as `make --dry-run`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.root import ROOT
from worker.engine.toolchains.environments import NAMES

MAKEFILE = (ROOT / "Makefile").read_text()


OVERRIDES = ("MAKE", "MFLAGS", "TORCH", "VENV", "PYTHON", "BASE", "TARGETS")
"""What the make that runs these tests may have been told, and hands on; PYTHON also stands for PYTHONPATH and so on."""


def make(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(OVERRIDES)}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_is_the_default_and_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony
    listed = re.findall(r"^  make ([a-z-]+)", make().stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())
    assert {"setup", "run", "demo", "test", "lint", "bench", "migrate", "image"} <= set(listed)


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("run", "-m worker embedded"),
        ("demo", "examples/demo.py"),
        ("test", "-m pytest"),
        ("bench", "-m bench"),
        ("toolchains", "-m worker toolchains install"),
        ("test-fast", "-m pytest -n 2 tests/app tests/house"),
        ("test-ci", "-m pytest -n 2 -m 'not extended'"),
        ("test-slow", "-m pytest -n 2 -m 'extended'"),
        ("test-targets", "-m pytest -n 2 -m 'toolchain"),
        ("migrate", "-m migrations"),
    ],
)
def test_a_target_installs_torch_pinned_then_the_rest_then_does_its_work(
    tmp_path: Path, target: str, command: str
) -> None:
    steps = make("--dry-run", target, f"VENV={tmp_path}/venv").stdout
    torch, rest, work = (steps.index(part) for part in ("torch==", "-c constraints.txt -e '.[worker", command))
    assert torch < rest < work


def test_the_demo_does_not_wait_for_the_development_tools(tmp_path: Path) -> None:
    steps = make("--dry-run", "demo", f"VENV={tmp_path}/venv").stdout
    assert "'.[worker,demo]'" in steps
    assert "dev]" not in steps


def test_what_only_benches_compare_with_is_installed_for_them_alone(tmp_path: Path) -> None:
    def installs_it(target: str) -> bool:
        return "'.[bench]'" in make("--dry-run", target, f"VENV={tmp_path}/venv").stdout

    assert all(map(installs_it, ("bench", "results", "setup-bench")))
    assert not any(map(installs_it, ("setup", "test", "lint", "demo")))


def test_an_index_is_used_for_torch_alone(tmp_path: Path) -> None:
    steps = make("--dry-run", "setup", f"VENV={tmp_path}/venv", "TORCH_INDEX=https://wheels.example/cpu").stdout
    [line] = [line for line in steps.splitlines() if "wheels.example" in line]
    assert "torch==" in line


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that setting up reads, and a virtual environment whose pip only writes down what it was asked."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" >>calls\n')
    python.chmod(0o755)
    return tmp_path


def test_setting_up_again_does_nothing_until_a_pin_changes(checkout: Path) -> None:
    assert make("setup", cwd=checkout).returncode == 0
    first = (checkout / "calls").read_text()
    assert first.count("install_torch.py torch==") == first.count("pip install") == 1
    assert make("setup", cwd=checkout).returncode == 0
    assert (checkout / "calls").read_text() == first

    later = (checkout / ".venv" / ".installed-all").stat().st_mtime + 10
    os.utime(checkout / "constraints.txt", (later, later))
    make("setup", cwd=checkout)
    assert (checkout / "calls").read_text().count("pip install") == 2


def test_an_old_python_is_refused_with_the_cure(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    made = make("setup", f"VENV={tmp_path}/venv", f"PYTHON={old}")
    assert made.returncode != 0
    assert "Python 3.11 or later" in made.stderr
    assert not (tmp_path / "venv").exists()


@pytest.fixture
def ci(tmp_path: Path) -> Path:
    """CI's script in a checkout of its own, on a machine without apt-get, whose `make` does what a test says."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_text((ROOT / ".ci" / "run").read_text())
    (tmp_path / "bin").mkdir()
    for tool in ("dirname", "id", "mktemp", "rm"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    return tmp_path


def run_ci(checkout: Path, fake_make: str) -> subprocess.CompletedProcess[str]:
    fake = checkout / "bin" / "make"
    fake.write_text(f"#!/bin/bash\necho make $1 >>calls\n{fake_make}\n")
    fake.chmod(0o755)
    bash = shutil.which("bash") or pytest.fail("no bash")
    return subprocess.run(
        [bash, ".ci/run"],
        cwd=checkout,
        env={"PATH": str(checkout / "bin"), "HOME": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )


def junit(**counts: int) -> str:
    """A shell line that, when tests are run, leaves a JUnit report with these counts where pytest was told to."""
    attributes = " ".join(f'{name}="{count}"' for name, count in counts.items())
    report = f"<testsuites><testsuite {attributes}/></testsuites>"
    return f"[ $1 != test-ci ] || echo '{report}' > ${{PYTEST_ADDOPTS##*=}}"


def test_ci_lints_then_tests_and_counts(ci: Path) -> None:
    ran = run_ci(ci, junit(tests=7, skipped=2, failures=0, errors=0))
    assert ran.returncode == 0, ran.stderr
    assert "5 passed, 2 skipped" in ran.stdout
    calls = (ci / "calls").read_text().splitlines()
    assert (calls[0], calls[-1]) == ("make setup", "make test-ci")
    assert sorted(calls[1:-1]) == ["make lint", "make test-servers", *["make toolchains"] * 3]


def test_ci_tells_the_time_of_each_phase(ci: Path) -> None:
    ran = run_ci(ci, junit(tests=1, skipped=0, failures=0, errors=0))

    phases = re.fullmatch(r"CI: ((?:\w+ \d+ s, )+)together \d+ s", ran.stdout.splitlines()[-1])
    assert phases is not None, ran.stdout
    assert re.findall(r"[a-z]{2,}", phases[1]) == ["packages", "environment", "linters", "toolchains", "tests"]


def test_ci_installs_every_toolchain_and_demands_it_of_the_tests(ci: Path) -> None:
    run_ci(ci, 'echo "$2" "$PARE_TEST_TOOLCHAINS" >>toolchains')

    script = (ci / "toolchains").read_text()
    rows = re.findall(r"TOOLCHAINS=(.*)", script)
    assert sorted(" ".join(rows).split()) == sorted(NAMES)
    assert sorted(script.splitlines()[-1].split()) == sorted(NAMES)


@pytest.mark.parametrize(
    "counts",
    [
        {"tests": 0, "skipped": 0, "failures": 0, "errors": 0},
        {"tests": 4, "skipped": 4, "failures": 0, "errors": 0},
        {"tests": 4, "skipped": 0, "failures": 1, "errors": 0},
    ],
)
def test_ci_fails_when_nothing_passed_or_something_failed(ci: Path, counts: dict[str, int]) -> None:
    assert run_ci(ci, junit(**counts)).returncode != 0


@pytest.mark.parametrize("failing", ["setup", "lint", "toolchains", "test-servers", "test-ci"])
def test_ci_stops_at_the_first_failure(ci: Path, failing: str) -> None:
    ran = run_ci(ci, f"[ $1 != {failing} ] || {{ echo no space left; exit 5; }}")
    assert ran.returncode == 5
    assert "no space left" in ran.stdout, "what ran beside others is shown as well"
    assert ("make test-ci" in (ci / "calls").read_text()) is (failing == "test-ci")
