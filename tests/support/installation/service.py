"""One process of ours, in a session of its own: started with settings, watched through its log, ended by its id."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.installation.waiting import until
from tests.support.root import ROOT

START_SECONDS = 120
STOP_SECONDS = 30
LOG_TAIL = 6000
POLLING = " pare.access GET "


class Service:
    """`python -m` with the given words; `settings` are the only `PARE_*` variables it sees."""

    def __init__(self, *words: str, settings: Mapping[str, object], log: Path) -> None:
        self.name = " ".join(words)
        self._log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=environment(settings),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    def said(self) -> str:
        """Return all it has logged."""
        return self._log.read_text(errors="replace")

    def tail(self) -> str:
        """Return its name and the end of its log, for a failed test's report."""
        end = f"exit status {self._child.returncode}" if self._child.poll() is not None else "running"
        lines = [line for line in self.said().splitlines() if POLLING not in line]
        return "\n".join([f"--- {self.name} ({self.pid}, {end})", *lines])[-LOG_TAIL:]

    def await_word(self, word: str) -> None:
        """Wait until the log holds `word`."""
        until(lambda: word in self.said() or not self.is_running, f"{self.name} to say {word!r}", START_SECONDS)
        assert self.is_running, self.tail()

    def descendants(self) -> list[psutil.Process]:
        """Return the processes it started and those they started."""
        return psutil.Process(self.pid).children(recursive=True)

    def send(self, number: signal.Signals) -> None:
        """Signal the process alone, not its group."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process alone, as the kernel would; what it started is not told."""
        self._child.kill()
        self._child.wait()

    def await_end(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end; the exit status."""
        return self._child.wait(seconds)

    def stop(self) -> None:
        """Ask it to end, wait, and kill what is left of its group."""
        if self.is_running:
            self._child.send_signal(signal.SIGCONT)
            self._child.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return this process's environment with these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PARE_")}
    return kept | {f"PARE_{name.upper()}": str(value) for name, value in settings.items()}
