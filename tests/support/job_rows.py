"""Steps of the life of a job, as rows of a database."""

from typing import Any
from uuid import UUID

from sqlalchemy import update

from app.db import jobs
from app.db.database import Database
from app.db.tables import Job, JobState
from app.db.types import from_now

ERROR: dict[str, Any] = {"code": "worker.lost", "detail": "The worker stopped answering.", "remedy": "Retry."}
LEASE = 60.0


def claim(database: Database, job: UUID, worker: str = "w1") -> int | None:
    with database.write() as session:
        claimed = jobs.claim(session, job, worker=worker, queue="cpu", lease_s=LEASE)
        return None if claimed is None else claimed.attempt


def state(database: Database, job: UUID) -> JobState:
    with database.read() as session:
        row = jobs.of(session, "t", job)
        assert row is not None
        return row.state


def expire(database: Database, job: UUID) -> None:
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job).values(lease_until=from_now(-1)))


def lose(database: Database) -> int:
    with database.write() as session:
        lost = jobs.expired(session)
        for job in lost:
            jobs.give_up_on(session, job, backoff_s=0, error=ERROR)
        return len(lost)
