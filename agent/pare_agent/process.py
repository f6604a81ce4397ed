"""Starts the confined process of one task and ends it: in time, in memory, and with everything it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from pare_agent import child
from pare_agent.facts import cores

LOOK_S = 0.1
LARGEST_ANSWER = 4 << 20
LARGEST_OUTPUTS = 256 << 20
LOG = "log.txt"
LOG_TAIL = 600
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
"""Of the agent's environment; whatever else is there may be a secret."""


class TaskFailed(Exception):
    """The device could not do it; `code` is one of the service's."""

    def __init__(self, code: str, detail: str) -> None:
        """`detail` says what happened there."""
        super().__init__(detail)
        self.code, self.detail = code, detail


class Stopped(Exception):
    """Somebody asked for the end before it was done."""


@dataclass(frozen=True)
class Bounds:
    """What a task's process may use. `interpreter`: the command that runs Python, with whatever goes before it."""

    memory_bytes: int
    interpreter: tuple[str, ...] = (sys.executable,)


def run(order: dict[str, Any], work: Path, bounds: Bounds, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Have the order carried out in `work`, where its files lie. Raises `TaskFailed`, `Stopped`."""
    deadline_s = float(order["deadline_s"])
    limits = {
        "memory_bytes": bounds.memory_bytes,
        "cpu_s": deadline_s * cores(),
        "file_bytes": LARGEST_OUTPUTS,
    }
    request = {"order": order, "limits": limits, "cores": cores(), "path": _import_path()}
    (work / child.REQUEST).write_text(json.dumps(request), encoding="utf-8")
    command = [*bounds.interpreter, str(Path(child.__file__).resolve())]
    with (work / LOG).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # our own file, no shell
            command,
            cwd=work,
            env=_environment(work),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _watch(process, time.monotonic() + deadline_s, deadline_s, bounds.memory_bytes, should_stop)
    finally:
        _end(process)
    return _answer(work, process.returncode)


def _watch(
    process: subprocess.Popen[bytes],
    deadline: float,
    deadline_s: float,
    memory_bytes: int,
    should_stop: Callable[[], bool],
) -> None:
    while process.poll() is None:
        if should_stop():
            raise Stopped
        if time.monotonic() > deadline:
            raise TaskFailed("agent.timed_out", f"It was not done within {deadline_s:g} s.")
        if _resident_bytes(process.pid) > memory_bytes:
            raise TaskFailed("agent.out_of_memory", f"It held more than {memory_bytes >> 20} MiB.")
        time.sleep(LOOK_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole group: what the process left behind goes with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answer(work: Path, status: int) -> dict[str, Any]:
    path = work / child.ANSWER
    if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_ANSWER:
        answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "error" in answer:
            raise TaskFailed(answer["error"]["code"], answer["error"]["detail"])
        return answer
    output = (work / LOG).read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:].strip()
    if -status == signal.SIGXCPU:
        raise TaskFailed("agent.timed_out", "It used up its CPU time.")
    if "bad_alloc" in output or -status == signal.SIGKILL:
        raise TaskFailed("agent.out_of_memory", "The operating system ended it, most likely for want of memory.")
    end = f"signal {-status}" if status < 0 else f"status {status}"
    raise TaskFailed("agent.failed", f"The process ended with {end}. {output}".strip())


def _environment(work: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {
        **kept,
        "HOME": str(work),
        "TMPDIR": str(work),
        "ORT_DISABLE_TELEMETRY": "1",
        "MALLOC_ARENA_MAX": "2",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _import_path() -> list[str]:
    """Where this process found its modules, the agent's own folder first."""
    ours = str(Path(__file__).resolve().parents[1])
    return [ours, *(entry for entry in sys.path if entry and entry != ours)]


def _resident_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0
