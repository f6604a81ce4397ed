"""What a job's process may see besides its own directory: Python, system libraries, a description of the CPU.

A toolchain's process also sees its environment, and may run what lies there, the interpreter and the loader.
"""

import sys
from pathlib import Path

from worker.runtime.jail.landlock import LIST, READ, RUN, USE_DEVICE, WORK, WRITE_DEVICE, Grant

SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/os-release",
    # Without these, numeric libraries miscount cores or miss instruction sets, and choose slower kernels.
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/version",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/max_map_count",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
)

OWN = Path("/proc/self")
OWN_PROCESS = (
    "auxv",
    "cgroup",
    "cmdline",
    "comm",
    "environ",
    "fd",
    "fdinfo",
    "limits",
    "maps",
    "smaps",
    "smaps_rollup",
    "stat",
    "statm",
    "status",
)
"""Of /proc/self. Not `net`, `mountinfo` and the like: they tell of the whole system, its connections above all, and
`task`, which may be listed, holds them once more for each thread."""

CUDA_READ = (
    "/proc/driver/nvidia",
    "/proc/driver/nvidia-caps",
    "/proc/devices",
    "/proc/modules",
    "/sys/module/nvidia",
    "/sys/module/nvidia_uvm",
    "/sys/bus/pci",
    "/sys/class/drm",
    "/sys/devices",
    "/etc/nvidia",
    "/opt/nvidia",
    "/usr/local/cuda",
)


LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
"""The kernel opens a program's loader as it opens the program: to be run."""


def grants(directory: Path, *, cuda: bool, environment: Path | None = None) -> list[Grant]:
    """Everything granted to a job that works in `directory`. Call it in the process to be confined.

    `environment`: the virtual environment whose programs it may run.
    """
    readable = [*(Path(path) for path in SYSTEM), *own_process(), *python()]
    granted = [Grant(path, READ) for path in readable] + [Grant(OWN.resolve() / "task", LIST)]
    granted += [Grant(Path("/dev/null"), WRITE_DEVICE), Grant(directory, WORK)]
    if cuda:
        granted += [Grant(Path(path), READ) for path in CUDA_READ]
        granted += [Grant(device, USE_DEVICE) for device in cuda_devices()]
    if environment is not None:
        granted += [Grant(path, RUN) for path in (environment, (environment / "bin" / "python").resolve())]
        granted += [Grant(Path(path).resolve(), RUN) for path in LOADERS]
    return granted


def own_process() -> list[Path]:
    """What a process may read about itself."""
    return [OWN.resolve() / name for name in OWN_PROCESS]


def python() -> list[Path]:
    """The interpreter, its libraries and Pare's own two packages; never the folder they lie in, which may hold data."""
    installed = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sys.base_exec_prefix)}
    libraries = {Path(entry) for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}}
    ours = {Path(place) for name in ("app", "worker") for place in sys.modules[name].__path__}
    return sorted(installed | libraries | ours)


def cuda_devices() -> list[Path]:
    """The device nodes of NVIDIA's driver."""
    return sorted([*Path("/dev").glob("nvidia*"), *Path("/dev/nvidia-caps").glob("*"), Path("/dev/dri")])
