"""Starts the toolchains that a job's process asks for: each a confined process of its own, watched like the job.

The job's process and the toolchain's share a folder and nothing else; the parent only starts, watches and ends, and
leaves a note of the end in that folder. See `worker.engine.toolchains.process`.
"""

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from app.spec.failure import Failure
from app.spec.targets import ToolchainName
from worker.engine.errors import ToolchainMissing
from worker.engine.toolchains.environments import Environments
from worker.engine.toolchains.process import ENDED, FOLDER
from worker.runtime.child_monitor import Listeners, Stopped, Verdict
from worker.runtime.child_protocol import LogLine

log = logging.getLogger(__name__)

MOST: Final = 64
"""Processes that one job may start, one after the other or at once: each target of a job takes one or two."""
LAST_LINES: Final = 20
MOST_WORDS: Final = 1500

Watch = Callable[[Path, list[str], Path, Listeners], Verdict | Failure | Stopped]
"""Runs a command of an environment, confined to a folder, until it ends: folder, command, environment, listeners."""


class ToolchainHost:
    """The toolchains of one job. Use it as a context manager: leaving it ends them all."""

    def __init__(self, directory: Path, environments: Environments, watch: Watch) -> None:
        """Nothing is started before `start`."""
        self._directory, self._environments, self._watch = directory, environments, watch
        self._threads: dict[int, threading.Thread] = {}
        self._over = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads.values():
            thread.join()

    def start(self, number: int, name: ToolchainName) -> None:
        """Start the toolchain `name` in folder `number`, which the job's process has made. What is odd is ignored."""
        folder = self._directory / FOLDER / str(number)
        if number in self._threads or len(self._threads) >= MOST or not _is_folder(folder):
            log.warning("a job asked for toolchain process %d in vain", number)
            return
        thread = threading.Thread(target=self._serve, args=(folder, name), name=f"toolchain-{name}", daemon=True)
        self._threads[number] = thread
        thread.start()

    def _serve(self, folder: Path, name: ToolchainName) -> None:
        if not self._environments.installed(name):
            error = ToolchainMissing(f"The toolchain {name} is not installed on this worker.")
            _note(folder, Failure(code=error.code, detail=error.detail, remedy=error.remedy))
            return
        lines: list[str] = []
        stop = Listeners(
            on_log=lambda line: _remember(lines, line), should_stop=lambda: "over" if self._over.is_set() else None
        )
        command, environment = self._environments.command(name), self._environments.folder(name)
        outcome = self._watch(folder, command, environment, stop)
        if isinstance(outcome, Failure):
            happened = outcome.detail.replace("The job's process", "Its process").replace("The job", "It")
            outcome = outcome.model_copy(update={"detail": f"{happened} {' '.join(lines)}".strip()[:MOST_WORDS]})
        elif isinstance(outcome, Stopped):
            return
        _note(folder, outcome)


def _remember(lines: list[str], line: LogLine) -> None:
    if line.source == "output":
        lines.append(line.message)
        del lines[:-LAST_LINES]


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _note(folder: Path, end: Verdict | Failure) -> None:
    """Tell the job's process that the other one is over. The folder is hostile ground: no link is followed."""
    failure = (
        end
        if isinstance(end, Failure)
        else Failure(code="toolchain.failed", detail="Its process had ended.", remedy="")
    )
    content = failure.model_dump_json().encode()
    with contextlib.suppress(OSError):
        part = os.open(folder / f"{ENDED}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(part, content)
        finally:
            os.close(part)
        (folder / f"{ENDED}.part").rename(folder / ENDED)
