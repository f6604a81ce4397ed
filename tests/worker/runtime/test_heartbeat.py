"""An attempt's heartbeat: what it stores, what it survives, and when it gives up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.db import events, jobs
from app.db.database import Database
from app.db.tables import Job, Model
from app.ids import new_id
from app.settings import Settings
from app.spec.progress import JobProgress
from tests.support.migrated import migrate_sqlite
from worker.runtime.child_protocol import LogLine
from worker.runtime.heartbeat import CANCELED, FENCED, Heartbeat


class Unsteady(Database):
    """A database that can be away."""

    away = False

    @contextmanager
    def read(self) -> Iterator[Session]:
        self._require_present()
        with super().read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        self._require_present()
        with super().write() as session:
            yield session

    def _require_present(self) -> None:
        if self.away:
            raise OperationalError("SELECT 1", {}, ConnectionError("away"))


@pytest.fixture
def database(tmp_path: Path) -> Unsteady:
    return Unsteady(migrate_sqlite(f"sqlite:///{tmp_path / 'pare.db'}"))


@pytest.fixture
def job(database: Unsteady) -> Job:
    """A job whose first attempt has begun."""
    model = Model(id=new_id(), tenant="t", name="m", labels={}, sha256="0" * 64, bytes=1, key="k", info={})
    queued = Job(
        id=new_id(),
        tenant="t",
        name="j",
        labels={},
        spec={},
        request_sha256="",
        model_id=model.id,
        queue="cpu",
        max_attempts=3,
    )
    with database.write() as session:
        session.add(model)
        session.flush()
        session.add(queued)
        session.flush()
        claimed = jobs.claim(session, queued.id, worker="w", queue="cpu", lease_s=60)
        assert claimed is not None
    return claimed


@pytest.fixture
def heartbeat(database: Unsteady, job: Job) -> Heartbeat:
    """Not started: the tests flush it by hand."""
    return Heartbeat(database, Settings(lease_s=0.4, heartbeat_s=0.1), job.id, job.attempt)


def stored(database: Database, job: Job, kind: events.Kind) -> list[str]:
    with database.read() as session:
        rows = events.after(session, job.id, 0, limit=100, kind=kind)
    return [row.data["stage" if kind == "progress" else "message"] for row in rows]


def test_every_stage_is_told_and_only_the_newest_progress_of_each(
    database: Unsteady, job: Job, heartbeat: Heartbeat
) -> None:
    for stage, step in (("opening", 1), ("quantizing", 2), ("measuring", 3)):
        for fraction in (0.0, 0.5):
            heartbeat.on_progress(JobProgress(stage=stage, step=step, steps=3, fraction=fraction))
    heartbeat.flush()

    assert stored(database, job, "progress") == ["opening", "quantizing", "measuring"]
    with database.read() as session:
        shown = jobs.of(session, "t", job.id)
    assert shown is not None
    assert (shown.stage, shown.step, shown.fraction) == ("measuring", 3, 0.5)


def test_what_was_said_while_the_database_was_away_is_stored_later(
    database: Unsteady, job: Job, heartbeat: Heartbeat
) -> None:
    database.away = True
    heartbeat.on_log(LogLine(message="first"))
    heartbeat.on_progress(JobProgress(stage="opening", step=1, steps=2, fraction=0))
    heartbeat.flush()
    heartbeat.on_log(LogLine(message="second"))
    heartbeat.flush()
    assert heartbeat.stop_reason() is None
    database.away = False
    heartbeat.flush()

    assert stored(database, job, "log") == ["first", "second"]
    assert stored(database, job, "progress") == ["opening"]


def test_an_attempt_without_a_database_ends_with_its_lease(database: Unsteady, heartbeat: Heartbeat) -> None:
    database.away = True
    with heartbeat:
        deadline = time.monotonic() + 10
        while heartbeat.stop_reason() is None and time.monotonic() < deadline:
            time.sleep(0.02)

    assert heartbeat.stop_reason() == FENCED


def test_a_cancel_request_reaches_the_attempt(database: Unsteady, job: Job, heartbeat: Heartbeat) -> None:
    with database.write() as session:
        jobs.request_cancel(session, job.id)
    heartbeat.flush()

    assert heartbeat.stop_reason() == CANCELED


def test_an_attempt_that_was_given_up_on_stops_and_writes_nothing(
    database: Unsteady, job: Job, heartbeat: Heartbeat
) -> None:
    with database.write() as session:
        jobs.lose(session, job, backoff_s=0, error={"code": "worker.lost", "detail": "gone", "remedy": "none"})
    heartbeat.on_log(LogLine(message="too late"))
    heartbeat.flush()

    assert heartbeat.stop_reason() == FENCED
    assert stored(database, job, "log") == []
