"""One server process of ours: started on a free port, awaited, stopped by its id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.support.stack.missing import ServerMissing

READY_SECONDS = 60
STOP_SECONDS = 15
LOG_TAIL = 2000


def free_ports(count: int) -> list[int]:
    """Return different TCP ports that were free a moment ago."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Process:
    """A child in a session of its own, so that a Ctrl-C at the terminal leaves the ending to the fixtures."""

    def __init__(self, command: Sequence[str | Path], *, log: Path, user: int | None = None) -> None:
        """Start the command, as another user's id where `user` is given (that takes root)."""
        self._log = log
        self.name = Path(command[0]).name
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env=clean_environment(),
                start_new_session=True,
                **as_user(user),
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return once `ready` does. Raises ServerMissing with the log's end if the process dies or is too slow."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerMissing(f"{self.name} did not start: {tail(self._log)}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal the process, wait, and kill what is left of its group."""
        self._child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_SECONDS)
        with suppress(ProcessLookupError, PermissionError):  # none left; macOS says "not permitted" of zombies
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would lead another Python to our packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def as_user(user: int | None) -> dict[str, object]:
    """Return Popen's arguments that drop root for the user."""
    return {} if user is None else {"user": user, "group": user_group(user), "extra_groups": []}


def user_group(user: int) -> int:
    import pwd

    return pwd.getpwuid(user).pw_gid


def listens(port: int) -> bool:
    """Return whether something accepts connections on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tail(log: Path) -> str:
    """Return the end of a log file."""
    return log.read_text(errors="replace")[-LOG_TAIL:].strip() if log.is_file() else "no log"
