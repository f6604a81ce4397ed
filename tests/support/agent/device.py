"""A device as the tests see it: the agent's process, and the directory where it keeps its state."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from pare_agent import __file__ as package

PACKAGE = Path(package).parents[1]


class Device:
    """A state directory, and the agent's process that runs on it."""

    def __init__(self, folder: Path, url: str, python: Sequence[str] = (sys.executable,), path: str = "") -> None:
        """`python`: the command of its interpreter, whose packages are in `path`."""
        self.state, self.url = folder / "state", url
        self._python, self._path = list(python), path
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log.txt"
        folder.mkdir()

    def command(self, *words: str) -> list[str]:
        return [*self._python, "-m", "pare_agent", *words, "--state", str(self.state)]

    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": f"{PACKAGE}{os.pathsep}{self._path}", "PYTHONDONTWRITEBYTECODE": "1"}

    def enrol(self, token: str) -> subprocess.CompletedProcess[str]:
        words = ("enrol", "--server", self.url, "--token", token)
        return subprocess.run(self.command(*words), env=self.environment(), capture_output=True, text=True, check=False)

    def start(self) -> None:
        words = ("run", "--memory-mib", "4096", "--interpreter", shlex.join(self._python))
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self.command(*words), env=self.environment(), stdout=log, stderr=log)

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        os.kill(self.process.pid, number)
        return self.process.wait(20)

    def said(self) -> str:
        return self._log.read_text(errors="replace")


@contextlib.contextmanager
def running(device: Device) -> Iterator[None]:
    device.start()
    try:
        yield
    finally:
        if device.process is not None and device.process.poll() is None:
            device.end(signal.SIGKILL)


def enrolled(
    client: httpx.Client, folder: Path, python: Sequence[str] = (sys.executable,), path: str = ""
) -> tuple[Device, str]:
    """A device, and its id."""
    device = Device(folder, str(client.base_url), python, path)
    token = client.post("/agents/tokens", json={"name": folder.name}).json()["token"]
    done = device.enrol(token)
    assert done.returncode == 0, done.stderr
    return device, done.stdout.split()[2]
