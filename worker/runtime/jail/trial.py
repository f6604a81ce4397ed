"""Tries to get out of the jail, in a real child, and says what worked: a layer counts only if it holds."""

import os
import platform
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from app.spec.base import Frozen
from worker.runtime.jail.level import Layers

REPORT = "trial.json"
UNLIKELY_PROGRAM = "/pare-no-such-program"


class Trial(Frozen):
    """What to reach for: a folder outside the jail that holds a file `secret`, and a port that listens on loopback."""

    outside: Path
    port: int


class TrialReport(Frozen):
    """What was applied, the attempts that succeeded, and the devices that the child can use."""

    layers: Layers
    escapes: tuple[str, ...] = Field(max_length=64)
    devices: tuple[str, ...] = Field(max_length=64)


def attempt(trial: Trial, directory: Path, *, file_bytes: int) -> tuple[str, ...]:
    """Try each way out; the names of those that were open."""
    attempts: dict[str, Callable[[], object]] = {
        "read a file outside": (trial.outside / "secret").read_bytes,
        "write a file outside": lambda: (trial.outside / "written").write_bytes(b""),
        "connect to a port": lambda: socket.create_connection(("127.0.0.1", trial.port), timeout=1).close(),
        "make a unix socket pair": socket.socketpair,
        "fork": _fork,
        "run a program": _execute,
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "read the parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "make a link": lambda: (directory / "link").symlink_to("/etc"),
        "change a file's mode": lambda: trial.outside.chmod(0o700),
        "set a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)),
        "write a file over the limit": lambda: _grow(directory / "large", file_bytes + 1),
    }
    return tuple(name for name, escape in attempts.items() if _succeeds(escape))


def _succeeds(escape: Callable[[], object]) -> bool:
    try:
        escape()
    except (OSError, ValueError):  # ValueError: how `resource` reports EPERM
        return False
    return True


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _execute() -> None:
    try:
        os.execv(UNLIKELY_PROGRAM, [UNLIKELY_PROGRAM])  # noqa: S606  # the point: is it refused before it is looked up?
    except FileNotFoundError:
        return


def _grow(path: Path, size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with path.open("wb") as file:
        file.truncate(size)
    path.unlink()


def devices(*, cuda: bool) -> tuple[str, ...]:
    """The CPU's model and, with `cuda`, the devices that could add two numbers from inside the jail."""
    return (cpu_model(), *(_cuda_names() if cuda else ()))


def cpu_model() -> str:
    """The CPU's model, as /proc/cpuinfo names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part")))
    return next(named, platform.processor() or platform.machine())


def _cuda_names() -> list[str]:
    import torch  # only a job's process loads it

    return [
        torch.cuda.get_device_name(index)
        for index in range(torch.cuda.device_count())
        if float(torch.ones(2, device=f"cuda:{index}").sum()) == 2.0
    ]
