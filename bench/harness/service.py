"""A service of our own for one story: started on a free port, with an empty data folder, and stopped."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.stack.redis import RedisServer

START_SECONDS = 180
STOP_SECONDS = 30


class ServiceDidNotStart(Exception):
    """The message is the end of its log."""


@dataclass(frozen=True)
class Service:
    """Where it listens, and its process."""

    url: str
    pid: int


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[Service]:
    """Service, broker and worker as `make run` starts them. Raises `ServiceDidNotStart`."""
    with _serving(["worker", "embedded"], folder, {}, "/readyz") as service:
        yield service


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[Service]:
    """The API in a process without a worker, on SQLite, a folder and a Redis of its own.

    Raises `ServiceDidNotStart`, and `ServerMissing` where Redis is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    redis = RedisServer(folder)
    try:
        settings = {"PARE_BROKER_URL": redis.url}
        subprocess.run([sys.executable, "-m", "migrations"], env=_environment(folder, settings), check=True)
        with _serving(["app"], folder, settings, "/livez") as service:
            yield service
    finally:
        redis.stop()


@contextlib.contextmanager
def _serving(module: Sequence[str], folder: Path, settings: dict[str, str], sign: str) -> Iterator[Service]:
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = _environment(folder, settings | {"PARE_PORT": str(port)})
    log = folder / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", *module], env=environment, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        _await(process, f"{url}{sign}", log)
        yield Service(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(folder: Path, settings: dict[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PARE_")}
    return inherited | {"PARE_DATA_DIR": str(folder / "pare-data"), "PARE_INSPECT_UPLOADS": "false"} | settings


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise ServiceDidNotStart(log.read_text(errors="replace")[-2000:])
