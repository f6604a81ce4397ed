"""What happened to a job, in order, without gaps."""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from app.db.tables import Event, Job
from app.db.types import from_now

Kind = Literal["state", "progress", "log"]


def add(session: Session, job: UUID, kind: Kind, data: dict[str, Any]) -> None:
    """Append an event. The job's row is locked until the commit, so readers see the numbers in order."""
    number = session.scalar(update(Job).where(Job.id == job).values({Job.events: Job.events + 1}).returning(Job.events))
    session.execute(insert(Event).values(job_id=job, seq=number, at=from_now(), kind=kind, data=data))


def after(session: Session, job: UUID, seq: int, *, limit: int, kind: Kind | None = None) -> Sequence[Event]:
    """Fetch the events that followed number `seq`."""
    statement = select(Event).where(Event.job_id == job, Event.seq > seq).order_by(Event.seq).limit(limit)
    return session.scalars(statement if kind is None else statement.where(Event.kind == kind)).all()
