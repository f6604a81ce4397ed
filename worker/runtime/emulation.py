"""Makes the environment of the emulators, below one folder and without root.

- `bin/python`: a Python of this machine, which starts the emulators;
- `amd64/`, `arm64/`: Debian packages and Python wheels for each; QEMU itself lies in the first, with its libraries;
- `cpus/<cpu>/`: the file system as programs on that CPU see it: links to one of those, and its own /proc and /sys;
- `count.so`: QEMU's plugin that counts instructions.
"""

import platform
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

from app.errors import PareError
from worker.engine.toolchains.environments import LOCKS
from worker.runtime import debian
from worker.toolchains.emulated_cpus import CPUS, Cpu, Machine
from worker.toolchains.emulator import PLUGIN, SITE, hosted

WHEELS: Final = LOCKS / "emulator.txt"
PACKAGES: Final = LOCKS / "emulator-debian.txt"
PLUGIN_SOURCE: Final = LOCKS / "emulator-count.c"
WHEEL_TAGS: Final[dict[Machine, str]] = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBCS: Final = (28, 27, 17)
"""Minor versions of the C library that wheels may ask for; Debian 12 has 2.36."""
ONE_CORE: Final = {
    **dict.fromkeys(("possible", "present", "online", "kernel_max"), "0"),
    **dict.fromkeys((f"cpu0/topology/{name}" for name in ("core_id", "physical_package_id", "cluster_id")), "0"),
    **dict.fromkeys(
        (f"cpu0/topology/{name}_list" for name in ("core_siblings", "thread_siblings", "core_cpus", "package_cpus")),
        "0",
    ),
}
"""/sys/devices/system/cpu of a machine with one core."""


class EmulationFailed(PareError):
    """The emulators' environment could not be made on this machine."""

    code, status = "emulator.install_failed", 500
    remedy = "Read the words above. The emulators need Linux on x86-64, a Debian mirror, and 1 GB of disk."


def possible() -> bool:
    """Whether this machine can run the emulators."""
    return (platform.system(), platform.machine()) == ("Linux", "x86_64")


def build(folder: Path, mirror: str, say: Callable[[str], None]) -> None:
    """Make everything below `folder`. Raises `PackageUnavailable`, `EmulationFailed`."""
    if not possible():
        raise EmulationFailed(f"This is {platform.system()} on {platform.machine()}.")
    venv.create(folder, with_pip=False, symlinks=True)
    places = debian.sources(PACKAGES, mirror)
    packages = debian.locked(PACKAGES)
    for number, package in enumerate(packages, 1):
        if number % 20 == 1:
            say(f"emulator: Debian packages, {number} of {len(packages)}")
        debian.unpack(debian.fetch(package, places), folder / package.machine)
    for machine in get_args(Machine):
        say(f"emulator: wheels for {machine}")
        _install_wheels(folder / machine / SITE, machine)
        # The loader would look for libraries in the real machine's list.
        (folder / machine / "etc" / "ld.so.cache").touch()
    _drop_other_emulators(folder)
    for name, cpu in CPUS.items():
        _make_root(folder / "cpus" / name, cpu)
    _compile_plugin(folder)


def _install_wheels(site: Path, machine: Machine) -> None:
    tags = [option for minor in GLIBCS for option in ("--platform", f"manylinux_2_{minor}_{WHEEL_TAGS[machine]}")]
    _run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--no-compile",
        *tags,
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--target",
        str(site),
        "--requirement",
        str(WHEELS),
    )


def _drop_other_emulators(folder: Path) -> None:
    """QEMU's package has one for each of 36 machines, 4 MB each."""
    wanted = {cpu.qemu for cpu in CPUS.values()}
    for program in (folder / "amd64" / "usr" / "bin").glob("qemu-*"):
        if program.name not in wanted:
            program.unlink()


def _make_root(root: Path, cpu: Cpu) -> None:
    root.mkdir(parents=True)
    machine = root.parent.parent / cpu.machine
    for entry in machine.iterdir():
        if entry.name != SITE:
            (root / entry.name).symlink_to(Path("..", "..", cpu.machine, entry.name))
    files = {"proc/cpuinfo": cpu.cpuinfo}
    files |= {f"sys/devices/system/cpu/{name}": f"{content}\n" for name, content in ONE_CORE.items()}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def _compile_plugin(folder: Path) -> None:
    tcc = folder / "amd64" / "usr" / "lib" / "x86_64-linux-gnu" / "tcc"
    _run(
        *hosted(folder, "tcc"),
        f"-B{tcc}",
        "-nostdlib",
        "-nostdinc",
        "-shared",
        "-o",
        str(folder / PLUGIN),
        str(PLUGIN_SOURCE),
    )


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:  # noqa: S603  # our own interpreter or compiler, no shell
        raise EmulationFailed(f"This failed: {' '.join(command)}.")
