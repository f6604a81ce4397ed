"""A Redis server that remembers nothing."""

import signal
from pathlib import Path

import redis

from tests.support.stack.missing import program
from tests.support.stack.process import Process, free_ports

INSTALL = "apt-get install redis-server (macOS: brew install redis)"
FOLDERS = [Path("/opt/homebrew/bin"), Path("/usr/local/bin"), Path("/usr/sbin")]


class RedisServer:
    """Runs redis-server on a port it keeps; whatever was in it is lost by `stop`."""

    def __init__(self, folder: Path) -> None:
        self._program = program("redis-server", folders=FOLDERS, install=INSTALL)
        self._folder = folder
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: Process | None = None
        self.start()

    def start(self) -> None:
        """Run the server, if it is not running, and wait until it answers."""
        if self._process is not None:
            return
        only_here = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        no_disk = ["--save", "", "--appendonly", "no"]
        self._process = Process([self._program, *only_here, *no_disk], log=self._folder / "redis.log")
        self._process.wait_until(self._answers)

    def stop(self) -> None:
        """Stop the server the hard way, as a crash would: nobody is told goodbye."""
        if self._process is not None:
            self._process.stop(signal.SIGKILL)
            self._process = None

    def flush(self) -> None:
        """Empty all its databases."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
