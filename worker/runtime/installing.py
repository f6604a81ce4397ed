"""Makes the toolchains' environments: `python -m worker toolchains install [NAME ...]`."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import PareError
from app.spec.targets import ToolchainName
from worker.engine.toolchains.environments import LOCKS, NAMES, STAMP, Environments, digest
from worker.runtime import emulation


class InstallFailed(PareError):
    """pip could not make a toolchain's environment."""

    code, status = "toolchain.install_failed", 500
    remedy = "Read pip's own words above; a package index or some gigabytes of disk are usually what is missing."


def install(names: Sequence[ToolchainName], environments: Environments, mirror: str) -> None:
    """Make the environments that are missing or older than their lock file; `mirror` is one of Debian's.

    Raises `InstallFailed`, and for the emulators `EmulationFailed` and `PackageUnavailable`.
    """
    for name in names:
        if environments.installed(name):
            _say(f"{name}: installed")
            continue
        if name == "emulator" and len(names) > 1 and not emulation.possible():
            _say(f"{name}: left out, it is for Linux on x86-64")
            continue
        folder = environments.folder(name)
        _say(f"{name}: installing into {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        if name == "emulator":
            emulation.build(folder, mirror, _say)
        else:
            _make(folder, LOCKS / f"{name}.txt")
        (folder / STAMP).write_text(digest(name))


def show(environments: Environments) -> None:
    """One line for each toolchain."""
    for name in NAMES:
        _say(f"{name:12} {'installed' if environments.installed(name) else 'missing'}")


def _make(folder: Path, lock: Path) -> None:
    _run(sys.executable, "-m", "venv", str(folder))
    for packages in _pip_arguments(lock):
        _run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", *packages)


def _pip_arguments(lock: Path) -> list[list[str]]:
    """Torch first and alone, as everywhere: nothing else may choose its build."""
    torch = [line for line in lock.read_text().splitlines() if line.startswith("torch==")]
    return [torch, ["--requirement", str(lock)]] if torch else [["--requirement", str(lock)]]


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:  # noqa: S603  # our own interpreter, no shell
        raise InstallFailed(f"This failed: {' '.join(command)}.")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # a command line's output
