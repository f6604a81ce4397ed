"""The agent's life: ask for a task, do it, report it; again, until told to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from pare_agent.cache import FileRefused, digest
from pare_agent.child import OUTPUTS
from pare_agent.client import Insecure, Refused, Unreachable
from pare_agent.facts import facts
from pare_agent.lease import Lease
from pare_agent.process import Bounds, Stopped, TaskFailed, run
from pare_agent.sensors import Sensors, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pare_agent.cache import Cache
    from pare_agent.client import Client

log = logging.getLogger(__name__)

POLL_S = 30.0
GRACE_S = 15.0
"""Beyond the poll, for the answer to arrive."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
WORK = "work-"
GONE = (401, 404, 409)
"""Statuses by which the service says that the task, or the agent, is no longer its concern."""
LONGEST_DETAIL = 1000


class TaskLost(Exception):
    """The service gave the task to another attempt, or nobody wants it any more."""


class Asked(BaseException):
    """SIGTERM came while nothing was at work. Not an Exception: nothing on the way may swallow it."""


class Agent:
    """One enrolled device."""

    def __init__(self, client: Client, cache: Cache, scratch: Path, bounds: Bounds) -> None:
        """Work below `scratch`; folders of a run that was killed are removed."""
        self._client, self._cache, self._scratch, self._bounds = client, cache, scratch, bounds
        self._stop = threading.Event()
        self._idle = False
        scratch.mkdir(parents=True, exist_ok=True)
        for left in scratch.glob(f"{WORK}*"):
            shutil.rmtree(left, ignore_errors=True)

    def serve(self) -> None:
        """Take tasks until SIGTERM or SIGINT. Raises `Refused` where the credential is void."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        wait = FIRST_WAIT_S
        with contextlib.suppress(Asked):
            while not self._stop.is_set():
                try:
                    self.run_once()
                    wait = FIRST_WAIT_S
                except Unreachable as error:
                    log.warning("%s; trying again in %.0f s at most", error, wait)
                    self._rest(wait)
                    wait = min(2 * wait, LONGEST_WAIT_S)
        log.info("stopped")

    def run_once(self, wait_s: float = POLL_S) -> bool:
        """Ask once, do what comes; whether something came. Raises `Unreachable`, `Refused`."""
        with self._interruptible():
            body = {"facts": facts(), "wait_s": wait_s}
            task = self._client.post("/agents/self/poll", body, timeout_s=wait_s + GRACE_S)
        if task is None:
            return False
        log.info("%s: attempt %d begins", task["id"], task["attempt"])
        with Lease(self._client, task) as lease:
            try:
                self._report(task, lease, self._outcome(task, lease))
                log.info("%s: reported", task["id"])
            except TaskLost:
                log.warning("%s: given up, it is not ours any more", task["id"])
            except Stopped:
                log.info("%s: handed back", task["id"])
                self._say(task, "hand-back", {"attempt": task["attempt"]}, lambda: True)
        return True

    def _outcome(self, task: dict[str, Any], lease: Lease) -> dict[str, Any]:
        """A measurement or a failure, as the service takes it. Raises `TaskLost`, `Stopped`."""
        with self._folder() as work:
            try:
                for file in task["files"]:
                    self._place(task, file, work, lease)
                answer, condition = self._measured(task, work, lease)
                outputs = work / OUTPUTS
                path = f"/agents/self/tasks/{task['id']}/outputs?attempt={task['attempt']}"
                self._insist(lambda: self._client.send(path, outputs), lease)
            except (TaskFailed, FileRefused, Insecure, OSError) as error:
                log.warning("%s: %s", task["id"], error)
                return {"failure": {"code": _code(error), "detail": _detail(error)}}
            missing = answer.pop("missing")
            notes = [*answer.pop("notes"), *(f"The kernel there does not confine {what}." for what in missing)]
            device = {"facts": facts(), "outputs_sha256": digest(outputs), "condition": condition, "notes": notes}
            return {"measurement": {**answer, **device}}

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        work = Path(tempfile.mkdtemp(prefix=WORK, dir=self._scratch))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _place(self, task: dict[str, Any], file: dict[str, Any], work: Path, lease: Lease) -> None:
        """Put a file of the task into its folder under its role."""
        path = f"/agents/self/tasks/{task['id']}/files/{file['sha256']}"
        cached = self._insist(
            lambda: self._cache.get(file["sha256"], file["bytes"], lambda start: self._client.fetch(path, start)), lease
        )
        try:
            os.link(cached, work / file["role"])
        except OSError:
            shutil.copyfile(cached, work / file["role"])

    def _measured(self, task: dict[str, Any], work: Path, lease: Lease) -> tuple[dict[str, Any], dict[str, Any]]:
        watch = Watch(Sensors())
        watch.start()
        try:
            answer = run(task["order"], work, self._bounds, lambda: self._stop.is_set() or lease.lost)
        except Stopped:
            if lease.lost:
                raise TaskLost from None
            raise
        finally:
            watch.stop()
        return answer, watch.condition()

    def _report(self, task: dict[str, Any], lease: Lease, outcome: dict[str, Any]) -> None:
        attempt = {"attempt": task["attempt"]}
        refused = self._say(task, "result", {**attempt, **outcome}, lambda: lease.lost)
        if refused is not None and refused.status not in GONE:
            # The service takes no such figures: it must hear that there are none, or it waits for the lease to run out.
            failure = {"code": "agent.failed", "detail": f"The figures were refused: {refused}"[:LONGEST_DETAIL]}
            self._say(task, "result", {**attempt, "failure": failure}, lambda: lease.lost)

    def _say(
        self, task: dict[str, Any], what: str, body: dict[str, Any], give_up: Callable[[], bool]
    ) -> Refused | None:
        """Tell the service, again while it is away and `give_up` says no; its refusal if it did not want to hear."""
        wait = FIRST_WAIT_S
        while True:
            try:
                self._client.post(f"/agents/self/tasks/{task['id']}/{what}", body)
                return None
            except Unreachable as error:
                log.warning("%s: %s", task["id"], error)
                if give_up():
                    return None
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_S)
            except Refused as error:
                log.warning("%s: %s", task["id"], error)
                return error

    def _insist(self, act: Callable[[], Any], lease: Lease) -> Any:
        """Do it, again while the line is down. Raises `TaskLost`, `Stopped`."""
        wait = FIRST_WAIT_S
        while True:
            if self._stop.is_set():
                raise Stopped
            if lease.lost:
                raise TaskLost
            try:
                return act()
            except (Unreachable, ConnectionError) as error:
                log.warning("%s; trying again", error)
                self._stop.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT_S)
            except Refused as error:
                if error.status in GONE:
                    raise TaskLost from None
                raise TaskFailed("agent.failed", str(error)) from None

    def _rest(self, wait: float) -> None:
        """Wait, for another time each: after a restart of the service not all agents come back at one moment."""
        self._stop.wait(wait * random.uniform(0.5, 1.0))  # noqa: S311  # no secret

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        self._idle = True
        try:
            if self._stop.is_set():
                raise Asked
            yield
        finally:
            self._idle = False

    def _on_signal(self, *_: object) -> None:
        self._stop.set()
        if self._idle:
            raise Asked


def _code(error: Exception) -> str:
    if isinstance(error, TaskFailed):
        return error.code
    return "agent.file_refused" if isinstance(error, (FileRefused, Insecure)) else "agent.failed"


def _detail(error: Exception) -> str:
    """In a sentence; an error of the system's without the file's place."""
    detail = f"The device: {error.strerror}." if isinstance(error, OSError) else str(error)
    return detail[:LONGEST_DETAIL]
