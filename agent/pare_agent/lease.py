"""Keeps the service told that a task is being worked on, and notices when it is no longer this agent's."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from pare_agent.client import Refused, Unreachable

if TYPE_CHECKING:
    from pare_agent.client import Client

log = logging.getLogger(__name__)


class Lease(threading.Thread):
    """A heartbeat beside one task. Use it as a context manager; `lost` says that others may have the task."""

    def __init__(self, client: Client, task: dict[str, Any]) -> None:
        """Nothing is sent before it is entered."""
        super().__init__(name="lease", daemon=True)
        self._client = client
        self._path, self._attempt = f"/agents/self/tasks/{task['id']}", task["attempt"]
        self._every_s, self._lease_s = float(task["heartbeat_s"]), float(task["lease_s"])
        self._renewed = time.monotonic()
        self._over = threading.Event()
        self._gone = threading.Event()

    def __enter__(self) -> Lease:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    @property
    def lost(self) -> bool:
        """Whether the service said so, or has not answered for as long as the lease."""
        return self._gone.is_set() or time.monotonic() - self._renewed > self._lease_s

    def run(self) -> None:
        while not self._over.wait(self._every_s) and not self.lost:
            asked = time.monotonic()
            try:
                self._client.post(f"{self._path}/heartbeat", {"attempt": self._attempt}, timeout_s=self._every_s)
                self._renewed = asked
            except Unreachable as error:
                log.warning("no heartbeat: %s", error)
            except Refused as error:
                log.warning("the task is not ours any more: %s", error)
                self._gone.set()
