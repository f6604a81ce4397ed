"""`install_torch.py torch==VERSION [cpu|cuda] [--index URL]`: the CPU build of torch, unless CUDA's is asked for.

On Linux a package index may well have a CUDA build alone under the plain version: gigabytes, for a machine that may
have no such GPU. So pip is asked what it would take, which costs it a few kilobytes of metadata, and the CPU's build is
taken where there is one. Where there is none, CUDA's is taken with a hint, as it works everywhere; a build that was
asked for by name and is not offered ends in the hint. A build that is installed already stays, unless another one is
asked for.
"""

import argparse
import json
import subprocess
import sys
from importlib import metadata

from pip import __version__ as pip_version
from pip._vendor.packaging.requirements import Requirement  # pip's own: a fresh environment has nothing else

FIRST_PIP_THAT_ASKS = (23, 3)
"""Earlier ones fetch the whole wheel to say what they would install."""
GPU_LIBRARIES = ("nvidia-", "cuda-")
GPU_VERSIONS = ("cu", "rocm", "xpu")
"""How the local part of a version begins: 2.13.0+cu130."""
HINTS = {
    "cpu": "TORCH_INDEX=URL with the index that PyTorch's install page names for CPU has the small one.",
    "cuda": "TORCH_INDEX=URL with the index that PyTorch's install page names for your CUDA version has it.",
}


def main() -> None:
    """Install what the command line asks for; exits with a hint where that cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pin", help="torch==VERSION")
    parser.add_argument("build", nargs="?", choices=sorted(HINTS))
    parser.add_argument("--index", default="", help="package index to take torch from, and nothing else")
    options = parser.parse_args()
    there = installed(options.pin)
    if there is None or there != (options.build or there):
        upgrade_pip()
        chosen = choose(options.pin, options.build, options.index)
        ran = pip_install("--quiet", *index_flags(options.index), chosen)
        if ran.returncode:
            sys.exit(f"pip could not install {chosen}:\n{ran.stderr}")
        there = installed(options.pin)
    print(f"torch {metadata.version('torch')} ({there})")


def choose(pin: str, named: str | None, index: str) -> str:
    """The first requirement by which pip would take the build that is named, else the CPU's, else any."""
    wanted = named or "cpu"
    # A version with a local part is preferred to the plain one, so that `==` finds +cpu, `===` the plain one beside it.
    asked = (f"{pin}+cpu", pin) if wanted == "cpu" else (pin, pin.replace("==", "==="))
    answers = []
    for requirement in asked:
        build, said = offered(requirement, index)
        if build == wanted:
            return requirement
        answers.append((build, said))
    if all(build is None for build, _ in answers):
        sys.exit(f"pip finds no {pin}: {answers[-1][1]}")
    if named is None:
        print(f"Of {pin}, pip finds a CUDA build alone, and takes it: gigabytes. {HINTS['cpu']}", file=sys.stderr)
        return pin
    sys.exit(f"Of {pin}, pip would take another build than {wanted}: nothing was fetched. {HINTS[wanted]}")


def offered(requirement: str, index: str) -> tuple[str | None, str]:
    """The build that pip would install for a requirement, None if it finds none; and the last line that it said."""
    flags = ("--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-", *index_flags(index))
    asked = pip_install(*flags, requirement)
    if asked.returncode:
        return None, (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
    (package,) = json.loads(asked.stdout)["install"]
    return build_of(package["metadata"]["version"], package["metadata"].get("requires_dist", [])), ""


def installed(pin: str) -> str | None:
    """The build that is installed, None if none of this version is."""
    try:
        version, requires = metadata.version("torch"), metadata.requires("torch")
    except metadata.PackageNotFoundError:
        return None
    return build_of(version, requires or []) if Requirement(pin).specifier.contains(version) else None


def build_of(version: str, requires: list[str]) -> str:
    """`cuda` for whatever needs a GPU's libraries on this machine, else `cpu`."""
    if version.partition("+")[2].startswith(GPU_VERSIONS):
        return "cuda"
    needed = [Requirement(line) for line in requires]
    needs_gpu = any(
        need.name.lower().startswith(GPU_LIBRARIES) and (need.marker is None or need.marker.evaluate({"extra": ""}))
        for need in needed
    )
    return "cuda" if needs_gpu else "cpu"


def index_flags(index: str) -> list[str]:
    """Options of pip that take a package from this index; none for pip's own configuration."""
    return ["--index-url", index] if index else []


def upgrade_pip() -> None:
    """Have a pip that reads metadata; where there is none, wheels are local or few, and are looked into instead."""
    if tuple(int(part) for part in pip_version.split(".")[:2] if part.isdigit()) < FIRST_PIP_THAT_ASKS:
        pip_install("--quiet", "--upgrade", "pip>=23.3")


def pip_install(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this environment's pip; its exit status and what it said."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603, the user's own words


if __name__ == "__main__":
    main()
