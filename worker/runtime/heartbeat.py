"""Runs beside an attempt: renews its lease, stores its progress and log, and brings the request to stop."""

import logging
import threading
import time
from typing import Any, Self
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app.db import events, jobs
from app.db.database import Database
from app.db.tables import JobState
from app.settings import Settings
from app.spec.progress import JobProgress
from worker.runtime.child_protocol import LogLine
from worker.runtime.progress_throttle import ProgressThrottle

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Progress and a cancel request travel at this pace; the lease is renewed every `heartbeat_s`."""

TICK_LINES = 500
"""Log lines that one transaction stores: whoever floods the log waits for its own lines, not others for theirs."""

CANCELED = "canceled"
FENCED = "fenced"
DRAINING = "draining"


class Heartbeat(threading.Thread):
    """The heartbeat of one attempt. `stop_reason` says why the attempt must end, or None."""

    def __init__(self, database: Database, settings: Settings, job: UUID, attempt: int) -> None:
        super().__init__(name=f"heartbeat-{job.hex[-8:]}", daemon=True)
        self._database = database
        self._settings = settings
        self._job, self._attempt = job, attempt
        self._lock = threading.Lock()
        self._lines: list[LogLine] = []
        self._progress = ProgressThrottle()
        self._renewed = time.monotonic()
        self._over = threading.Event()
        self._reason: str | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def on_progress(self, progress: JobProgress) -> None:
        """Take note of progress; the next tick stores the newest of each stage."""
        with self._lock:
            self._progress.add(progress)

    def on_log(self, line: LogLine) -> None:
        """Take note of a log line; the next tick stores it."""
        with self._lock:
            self._lines.append(line)

    def stop_reason(self) -> str | None:
        """Why the attempt must end (`CANCELED`, `FENCED`), or None."""
        return self._reason

    def flush(self) -> None:
        """Store what was said so far, now."""
        for _ in range(1 + len(self._lines) // TICK_LINES):
            self._tick()

    def run(self) -> None:
        while not self._over.wait(min(TICK_SECONDS, self._settings.heartbeat_s)):
            self._tick()

    def _tick(self) -> None:
        with self._lock:
            lines, self._lines = self._lines[:TICK_LINES], self._lines[TICK_LINES:]
            progress = self._progress.take()
        is_due = time.monotonic() - self._renewed >= self._settings.heartbeat_s
        try:
            state = self._renew(lines, progress) if is_due or lines or progress else self._state()
        except SQLAlchemyError as error:
            # The database is away: keep working until the lease would have run out, then somebody else may have it.
            log.warning("job_%s: the database does not answer (%s)", self._job.hex, type(error).__name__)
            with self._lock:
                self._lines[:0] = lines
                self._progress.put_back(progress)
            if time.monotonic() - self._renewed > self._settings.lease_s:
                self._reason = FENCED
            return
        except Exception:  # without a heartbeat the lease runs out unseen: stop before somebody else begins
            log.exception("job_%s: the heartbeat failed", self._job.hex)
            self._reason = FENCED
            return
        if state is None:
            self._reason = FENCED
        elif state == "canceling":
            self._reason = CANCELED

    def _renew(self, lines: list[LogLine], stages: list[JobProgress]) -> JobState | None:
        """Renew the lease and store what was said; the job's state, or None when the attempt was given up on."""
        newest = stages[-1] if stages else None
        with self._database.write() as session:
            state = jobs.renew_lease(session, self._job, self._attempt, lease_s=self._settings.lease_s, progress=newest)
            if state is None:
                return None
            for progress in stages:
                events.add(session, self._job, "progress", _event(progress))
            for line in lines:
                events.add(session, self._job, "log", {"level": line.level, "message": line.message})
        self._renewed = time.monotonic()
        return state

    def _state(self) -> JobState | None:
        with self._database.read() as session:
            return jobs.state_of(session, self._job, self._attempt)


def _event(progress: JobProgress) -> dict[str, Any]:
    """As clients see it: `fraction` is that of the whole job."""
    return progress.model_dump() | {"fraction": round(progress.overall, 4)}
