"""All SQL about live workers and about periodic tasks that one process at a time performs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.tables import PeriodicRun, Worker
from app.db.types import from_now

ALIVE_SECONDS = 30.0
"""A worker not heard of for so long is not counted as alive; workers report every ten seconds."""
FORGOTTEN_SECONDS = 24 * 3600.0


def seen(session: Session, worker: str, *, queue: str, facts: dict[str, Any]) -> None:
    """Note that a worker is alive."""
    known = update(Worker).where(Worker.id == worker).values(seen_at=from_now(), queue=queue, facts=facts)
    if session.scalar(known.returning(Worker.id)) is None:
        session.execute(
            insert(Worker).values(id=worker, queue=queue, facts=facts, started_at=from_now(), seen_at=from_now())
        )


def gone(session: Session, worker: str) -> None:
    """Forget a worker that has stopped in good order."""
    session.execute(delete(Worker).where(Worker.id == worker))


def alive(session: Session) -> Sequence[Worker]:
    """Fetch the workers heard of lately."""
    return session.scalars(select(Worker).where(Worker.seen_at > from_now(-ALIVE_SECONDS)).order_by(Worker.id)).all()


def serving(session: Session, queue: str) -> int:
    """Count the live workers of a queue."""
    lately = Worker.seen_at > from_now(-ALIVE_SECONDS)
    return session.scalar(select(func.count()).select_from(Worker).where(Worker.queue == queue, lately)) or 0


def forget_old(session: Session) -> None:
    """Delete workers that were not heard of for a day."""
    session.execute(delete(Worker).where(Worker.seen_at < from_now(-FORGOTTEN_SECONDS)))


def claim_run(session: Session, task: str, *, every_s: float) -> bool:
    """Whether this caller is to run the periodic task now: true for one caller per period."""
    due = (
        update(PeriodicRun)
        .where(PeriodicRun.name == task, PeriodicRun.ran_at < from_now(-every_s))
        .values(ran_at=from_now())
    )
    if session.scalar(due.returning(PeriodicRun.name)) is not None:
        return True
    if session.scalar(select(PeriodicRun.name).where(PeriodicRun.name == task)) is not None:
        return False
    try:
        with session.begin_nested():
            session.execute(insert(PeriodicRun).values(name=task, ran_at=from_now()))
    except IntegrityError:
        return False  # another process made the first row a moment earlier
    return True


def last_run(session: Session, task: str) -> tuple[datetime | None, datetime]:
    """When a periodic task last ran, and the database's present time."""
    ran = session.scalar(select(PeriodicRun.ran_at).where(PeriodicRun.name == task))
    now = session.scalar(select(from_now()))
    if now is None:
        raise RuntimeError("the database has no clock")
    return ran, now
