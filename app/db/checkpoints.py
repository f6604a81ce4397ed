"""All SQL about checkpoints: files that one attempt at a job leaves for the next.

A job that failed keeps them for a retry, a week long; one that succeeded or was canceled has no more use for them.
Their objects go when no row refers to them: at once when a newer version is recorded, else with the sweep.
"""

import re
from collections.abc import Collection, Sequence
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


def keep(
    session: Session, job: UUID, attempt: int, versions: Sequence[Checkpoint], gone: Collection[str]
) -> Sequence[str] | None:
    """Record new versions of files, and that others are of no more use.

    Returns the keys that nobody refers to any more; None where this attempt was given up on, and nothing changed.
    """
    # Locked, so that the job does not end between this look and the commit.
    running = select(Job.id).where(Job.id == job, Job.attempt == attempt, Job.state == "running").with_for_update()
    if session.scalar(running) is None:
        return None
    names = {version.name for version in versions}.union(gone)
    old = delete(Checkpoint).where(Checkpoint.job_id == job, Checkpoint.name.in_(names))
    replaced = session.scalars(old.returning(Checkpoint.key)).all()
    session.add_all(versions)
    return replaced


def drop(session: Session, job: UUID) -> None:
    """Forget all files of a job."""
    session.execute(delete(Checkpoint).where(Checkpoint.job_id == job))


def drop_old(session: Session) -> None:
    """Forget what nobody came back for."""
    long_ended = select(Job.id).where(Job.state.in_(ENDED), Job.finished_at < from_now(-KEPT_SECONDS))
    session.execute(delete(Checkpoint).where(Checkpoint.job_id.in_(long_ended)))


def last_step(session: Session, job: UUID) -> list[Artifact]:
    """Make the artifact that shows a failed job's program after its last finished step; none if none left one."""
    steps = [
        (int(number[1]), checkpoint) for checkpoint in of(session, job) if (number := STEP.fullmatch(checkpoint.name))
    ]
    if not steps:
        return []
    _, last = max(steps, key=lambda step: step[0])
    tenant, attempt = session.execute(select(Job.tenant, Job.attempt).where(Job.id == job)).one()
    return [
        Artifact(
            id=new_id(),
            tenant=tenant,
            job_id=job,
            attempt=attempt,
            name=last.name,
            kind="checkpoint",
            media_type=OCTETS,
            target=None,
            sha256=last.sha256,
            bytes=last.bytes,
            key=last.key,
        )
    ]
