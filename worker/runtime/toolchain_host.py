"""Starts the toolchains that a job's process asks for: each a confined process of its own, watched like the job.

The job's process and the toolchain's share a folder and nothing else; the parent only starts, watches and ends, and
leaves a note of the end in that folder. See `worker.engine.toolchains.process`.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from app.spec.failure import Failure
from app.spec.targets import ToolchainName
from worker.engine.progress import ToolchainMissing
from worker.engine.toolchains.environments import Environments
from worker.engine.toolchains.process import ENDED, FOLDER, ToolchainFailed
from worker.runtime.child_messages import Listeners
from worker.runtime.child_monitor import EndedWell, Stopped
from worker.runtime.child_protocol import LogLine
from worker.runtime.untrusted_dir import UntrustedDir

log = logging.getLogger(__name__)

MAX_PROCESSES: Final = 64
"""Processes that one job may start, one after the other or at once: each target of a job takes one or two."""
LAST_LINES: Final = 20
MAX_DETAIL: Final = 1500

Watch = Callable[[Path, list[str], Path, Listeners], EndedWell | Failure | Stopped]
"""Runs a command of an environment, confined to a folder, until it ends: folder, command, environment, listeners."""


class ToolchainHost:
    """The toolchains of one job. Use it as a context manager: leaving it ends them all."""

    def __init__(self, directory: Path, environments: Environments, watch: Watch) -> None:
        """Nothing is started before `start`."""
        self._directory, self._environments, self._watch = directory, environments, watch
        self._threads: dict[int, threading.Thread] = {}
        self._has_refused = False
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
        if number in self._threads or len(self._threads) >= MAX_PROCESSES or not _is_folder(folder):
            if not self._has_refused:  # once is enough: it may ask as often as it likes
                log.warning("a job asked for toolchain process %d in vain", number)
            self._has_refused = True
            return
        thread = threading.Thread(target=self._serve, args=(folder, name), name=f"toolchain-{name}", daemon=True)
        self._threads[number] = thread
        thread.start()

    def _serve(self, folder: Path, name: ToolchainName) -> None:
        if self._environments.installed(name):
            end = self._run(folder, name)
        else:
            end = Failure.of(ToolchainMissing(f"The toolchain {name} is not installed on this worker."))
        if end is not None:
            _leave_note(folder, end)

    def _run(self, folder: Path, name: ToolchainName) -> Failure | None:
        """Run it to its end, and say how that came; None where the job is over before."""
        last_lines: deque[str] = deque(maxlen=LAST_LINES)

        def on_log(line: LogLine) -> None:
            if line.source == "output":
                last_lines.append(line.message)

        listeners = Listeners(on_log=on_log, should_stop=lambda: "over" if self._over.is_set() else None)
        command, environment = self._environments.command(name), self._environments.folder(name)
        match self._watch(folder, command, environment, listeners):
            case Stopped():
                return None
            case Failure(code=code, detail=detail, remedy=remedy):
                words = " ".join((detail, *last_lines))[:MAX_DETAIL]
                return Failure(code=code, detail=words, remedy=remedy)
            case EndedWell():
                return Failure.of(ToolchainFailed("Its process had ended."))


def _is_folder(path: Path) -> bool:
    try:
        with UntrustedDir(path):
            return True
    except OSError:
        return False


def _leave_note(folder: Path, end: Failure) -> None:
    """Tell the job's process that the other one is over."""
    try:
        with UntrustedDir(folder) as place:
            place.put(ENDED, end.model_dump_json().encode())
    except OSError as error:
        log.warning("the end of a toolchain could not be noted (%s)", error.strerror)
