"""An attempt's lifeline: renews the lease, shows progress, and brings the request to stop."""

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
from worker.runtime.child_protocol import LogLine, Progress

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Progress and a cancel request travel at this pace; the lease is renewed every `heartbeat_s`."""

CANCELED = "canceled"
FENCED = "fenced"
DRAINING = "draining"


class Heartbeat(threading.Thread):
    """Runs beside one attempt. `stop_reason` says why the attempt must end, or None."""

    def __init__(self, database: Database, settings: Settings, job: UUID, attempt: int) -> None:
        super().__init__(name=f"pulse-{job.hex[-8:]}", daemon=True)
        self._database = database
        self._settings = settings
        self._job, self._attempt = job, attempt
        self._lock = threading.Lock()
        self._lines: list[LogLine] = []
        self._news: list[Progress] = []
        self._renewed = time.monotonic()
        self._over = threading.Event()
        self._reason: str | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def on_progress(self, progress: Progress) -> None:
        """Remember the newest progress of each stage; the next tick shows them."""
        with self._lock:
            if self._news and self._news[-1].step == progress.step:
                self._news.pop()
            self._news.append(progress)

    def on_log(self, line: LogLine) -> None:
        """Remember a log line; the next tick stores it."""
        with self._lock:
            self._lines.append(line)

    def stop_reason(self) -> str | None:
        """Why the attempt must end (`CANCELED`, `FENCED`), or None."""
        return self._reason

    def flush(self) -> None:
        """Store what was said so far, now."""
        self._tick()

    def run(self) -> None:
        while not self._over.wait(min(TICK_SECONDS, self._settings.heartbeat_s)):
            self._tick()

    def _tick(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            news, self._news = self._news, []
        due = time.monotonic() - self._renewed >= self._settings.heartbeat_s
        try:
            state = self._beat(lines, news) if due or lines or news else self._look()
        except SQLAlchemyError as error:
            # The database is away: keep working until the lease would have run out, then somebody else may have it.
            log.warning("job_%s: the database does not answer (%s)", self._job.hex, type(error).__name__)
            with self._lock:
                self._lines[:0], self._news[:0] = lines, news
            if time.monotonic() - self._renewed > self._settings.lease_s:
                self._reason = FENCED
            return
        except Exception:  # without a pulse the lease runs out unseen: stop before somebody else begins
            log.exception("job_%s: the pulse failed", self._job.hex)
            self._reason = FENCED
            return
        if state is None:
            self._reason = FENCED
        elif state == "canceling":
            self._reason = CANCELED

    def _beat(self, lines: list[LogLine], news: list[Progress]) -> JobState | None:
        with self._database.write() as session:
            shown = _standing(news[-1]) if news else None
            state = jobs.pulse(session, self._job, self._attempt, lease_s=self._settings.lease_s, standing=shown)
            if state is None:
                return None
            for progress in news:
                events.add(session, self._job, "progress", _event(progress))
            for line in lines:
                events.add(session, self._job, "log", {"level": line.level, "message": line.message})
        self._renewed = time.monotonic()
        return state

    def _look(self) -> JobState | None:
        with self._database.read() as session:
            return jobs.state_of(session, self._job, self._attempt)


def _standing(progress: Progress) -> jobs.Standing:
    return jobs.Standing(progress.stage, progress.step, progress.steps, progress.fraction, progress.message)


def _event(progress: Progress) -> dict[str, Any]:
    return {
        "stage": progress.stage,
        "step": progress.step,
        "steps": progress.steps,
        "fraction": round(progress.overall, 4),
        "message": progress.message,
    }
