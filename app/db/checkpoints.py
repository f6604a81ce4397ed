"""All SQL about checkpoints: files that one attempt at a job leaves for the next.

A job that failed keeps them for a retry, a week long; one that succeeded or was canceled has no more use for them.
Their objects go when no row refers to them: at once when a newer version is recorded, else with the sweep.
"""

import re
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db.states import ENDED
from app.db.tables import Artifact, Checkpoint, Job
from app.db.types import from_now
from app.ids import new_id

KEPT_SECONDS = 7 * 24 * 3600.0
"""How long a failed job's checkpoints wait for a retry."""
STEP = re.compile(r"step-(\d{1,4})\.pt2")
"""The program after a step, a model of its own."""
OCTETS = "application/octet-stream"


def of(session: Session, job: UUID) -> Sequence[Checkpoint]:
    """Fetch what the attempts so far left."""
    return session.scalars(select(Checkpoint).where(Checkpoint.job_id == job).order_by(Checkpoint.name)).all()


def keep(session: Session, new: Checkpoint) -> tuple[bool, str | None]:
    """Record the newest version of a file; whether this attempt still may, and the key of the version it replaces."""
    if not _may_write(session, new.job_id, new.attempt):
        return False, None
    replaced = _forget(session, new.job_id, new.name)
    session.add(new)
    return True, replaced


def forget(session: Session, job: UUID, attempt: int, name: str) -> str | None:
    """Forget a file that is of no more use; the key it had, if this attempt may write and there was one."""
    return _forget(session, job, name) if _may_write(session, job, attempt) else None


def drop(session: Session, job: UUID) -> None:
    """Forget all files of a job."""
    session.execute(delete(Checkpoint).where(Checkpoint.job_id == job))


def drop_old(session: Session) -> None:
    """Forget what nobody came back for."""
    long_ended = select(Job.id).where(Job.state.in_(ENDED), Job.finished_at < from_now(-KEPT_SECONDS))
    session.execute(delete(Checkpoint).where(Checkpoint.job_id.in_(long_ended)))


def last_step(session: Session, job: UUID) -> list[Artifact]:
    """Make the artifact that shows a failed job's program after its last finished step; none if none left one."""
    steps = [(int(found[1]), one) for one in of(session, job) if (found := STEP.fullmatch(one.name))]
    if not steps:
        return []
    _, last = max(steps, key=lambda step: step[0])
    tenant, attempt = session.execute(select(Job.tenant, Job.attempt).where(Job.id == job)).one()
    return [
        Artifact(
            id=new_id(), tenant=tenant, job_id=job, attempt=attempt, name=last.name,
            kind="checkpoint", media_type=OCTETS, target=None, sha256=last.sha256, bytes=last.bytes, key=last.key,
        )
    ]  # fmt: skip


def _may_write(session: Session, job: UUID, attempt: int) -> bool:
    # Locked, so that the job does not end between this look and the commit.
    running = select(Job.id).where(Job.id == job, Job.attempt == attempt, Job.state == "running").with_for_update()
    return session.scalar(running) is not None


def _forget(session: Session, job: UUID, name: str) -> str | None:
    gone = delete(Checkpoint).where(Checkpoint.job_id == job, Checkpoint.name == name).returning(Checkpoint.key)
    return session.scalar(gone)
