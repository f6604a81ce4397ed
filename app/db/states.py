"""A job's life: which state may follow which, and the one way to move."""

from typing import Any, get_args
from uuid import UUID

from sqlalchemy import Update, update

from app.db.tables import Job, JobState

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    "queued": frozenset({"running", "canceled"}),
    "running": frozenset({"succeeded", "failed", "canceling", "queued"}),
    "canceling": frozenset({"canceled"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "canceled": frozenset({"queued"}),
}
ENDED: frozenset[JobState] = frozenset({"succeeded", "failed", "canceled"})
LIVE: frozenset[JobState] = frozenset(get_args(JobState)) - ENDED


def move(job: UUID, source_state: JobState, to: JobState, *, attempt: int | None = None, **values: Any) -> Update:
    """Build the compare-and-set that takes a job from one state to another, changing nothing if it is elsewhere.

    `attempt` also demands that this attempt is still the newest: a worker that was given up cannot write.
    """
    if to not in TRANSITIONS[source_state]:
        raise ValueError(f"no job goes from {source_state} to {to}")
    statement = update(Job).where(Job.id == job, Job.state == source_state).values(state=to, **values)
    return statement if attempt is None else statement.where(Job.attempt == attempt)
