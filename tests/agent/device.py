"""A device as the tests see it: the agent's process, and the directory where it keeps its state."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from pare_agent import __file__ as package


class Device:
    """A state directory, and the agent's process that runs on it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.state, self.url = folder / "state", url
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log.txt"
        folder.mkdir()

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "pare_agent", *words, "--state", str(self.state)]

    def enrol(self, token: str) -> subprocess.CompletedProcess[str]:
        words = ("enrol", "--server", self.url, "--token", token)
        return subprocess.run(self.command(*words), env=environment(), capture_output=True, text=True, check=False)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run", "--memory-mib", "2048"), env=environment(), stdout=log, stderr=log
            )  # fmt: skip

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        os.kill(self.process.pid, number)
        return self.process.wait(20)

    def said(self) -> str:
        return self._log.read_text(errors="replace")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(package).parents[1])}


@contextlib.contextmanager
def running(device: Device) -> Iterator[None]:
    device.start()
    try:
        yield
    finally:
        if device.process is not None and device.process.poll() is None:
            device.end(signal.SIGKILL)


def enrolled(client: httpx.Client, folder: Path) -> tuple[Device, str]:
    device = Device(folder, str(client.base_url))
    token = client.post("/agents/tokens", json={"name": folder.name}).json()["token"]
    done = device.enrol(token)
    assert done.returncode == 0, done.stderr
    return device, done.stdout.split()[2]
