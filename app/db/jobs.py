"""All SQL about jobs. Each function is one step of the protocol in `docs/decisions/0001-the-row-is-the-truth.md`."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from app.db import checkpoints, events, inspections
from app.db.states import LIVE, move
from app.db.tables import Artifact, Dataset, Job, JobDataset, JobModel, JobState, Model
from app.db.types import from_now
from app.spec.progress import JobProgress

PUBLISH_BATCH = 100
REPUBLISHED = 20
"""Jobs of a queue whose message is sent again when it was not answered; the next follow as these are claimed."""


def of(session: Session, tenant: str, job: UUID) -> Job | None:
    """Fetch one job of a tenant's own."""
    return session.scalar(select(Job).where(Job.tenant == tenant, Job.id == job, Job.kind == "compress"))


def by_idempotency_key(session: Session, tenant: str, key: str) -> Job | None:
    """Fetch the job that was submitted under this key."""
    return session.scalar(select(Job).where(Job.tenant == tenant, Job.idempotency_key == key))


def page(tenant: str, *, status: JobState | None) -> Select[Job]:
    """Select a tenant's jobs, optionally in one state; `app.db.pages` cuts the page."""
    statement = select(Job).where(Job.tenant == tenant, Job.kind == "compress")
    return statement if status is None else statement.where(Job.state == status)


def live_users(session: Session, *, model: UUID | None = None, dataset: UUID | None = None) -> int:
    """Count the unfinished jobs that read a model or a data set; an inspection may lose its model at any time."""
    statement = select(func.count()).select_from(Job).where(Job.state.in_(LIVE), Job.kind == "compress")
    if model is not None:
        reads = select(JobModel.job_id).where(JobModel.model_id == model)
        statement = statement.where(or_(Job.model_id == model, Job.id.in_(reads)))
    if dataset is not None:
        statement = statement.join(JobDataset, JobDataset.job_id == Job.id).where(JobDataset.dataset_id == dataset)
    return session.scalar(statement) or 0


def counts(session: Session) -> list[tuple[JobState, str, int]]:
    """Count jobs by state and queue."""
    rows = session.execute(select(Job.state, Job.queue, func.count()).group_by(Job.state, Job.queue))
    return [(row[0], row[1], row[2]) for row in rows]


def publishable(session: Session, *, republish_s: float) -> list[tuple[UUID, str]]:
    """Take the queued jobs whose message was never sent, or was sent long ago; returns (id, queue) and marks them.

    Two dispatchers never take the same row: PostgreSQL skips locked rows, SQLite has one writer. Only the oldest
    jobs of each queue are sent again: behind a busy worker thousands may wait, whose messages are not lost.
    """
    waiting = and_(Job.state == "queued", Job.run_after <= from_now())
    place = func.row_number().over(partition_by=Job.queue, order_by=Job.id)
    numbered = select(Job.id, place.label("place")).where(waiting).subquery()
    oldest = select(numbered.c.id).where(numbered.c.place <= REPUBLISHED)
    silent = and_(Job.published_at < from_now(-republish_s), Job.id.in_(oldest))
    due = (
        select(Job.id)
        .where(waiting, or_(Job.published_at.is_(None), silent))
        .order_by(Job.id)
        .limit(PUBLISH_BATCH)
        .with_for_update(skip_locked=True)
    )
    ids = session.scalars(due).all()
    taken = update(Job).where(Job.id.in_(ids), Job.state == "queued").values(published_at=from_now())
    return [(row.id, row.queue) for row in session.execute(taken.returning(Job.id, Job.queue))]


def unpublish(session: Session, jobs: Sequence[UUID]) -> None:
    """Forget that these were published: the broker did not take them."""
    session.execute(update(Job).where(Job.id.in_(jobs), Job.state == "queued").values(published_at=None))


def unpublish_all(session: Session) -> None:
    """Forget every message: the broker that had them was this process's memory before it was restarted."""
    session.execute(update(Job).where(Job.state == "queued").values(published_at=None))


def claim(session: Session, job: UUID, *, worker: str, queue: str, lease_s: float) -> Job | None:
    """Take a queued job; None if someone else has it, it is not due yet, or it was canceled."""
    took = (
        move(
            job,
            "queued",
            "running",
            attempt=None,
            worker=worker,
            lease_until=from_now(lease_s),
            stage="starting",
            message="",
            step=0,
            fraction=0.0,
            started_at=func.coalesce(Job.started_at, from_now()),
        )
        .where(Job.run_after <= from_now(), Job.queue == queue)
        .values({Job.attempt: Job.attempt + 1})
        .returning(Job)
    )
    claimed = session.scalar(took)
    if claimed is not None:
        events.add(session, job, "state", {"status": "running", "attempt": claimed.attempt})
    return claimed


def renew_lease(
    session: Session, job: UUID, attempt: int, *, lease_s: float, progress: JobProgress | None
) -> JobState | None:
    """Renew the lease and show progress; the job's state, or None when this attempt was given up on."""
    shown = {} if progress is None else progress.model_dump()
    renewed = (
        update(Job)
        .where(Job.id == job, Job.attempt == attempt, Job.state.in_(("running", "canceling")))
        .values(lease_until=from_now(lease_s), **shown)
        .returning(Job.state)
    )
    return session.scalar(renewed)


def state_of(session: Session, job: UUID, attempt: int) -> JobState | None:
    """Fetch the state of an attempt that is still the newest and at work, else None."""
    return session.scalar(
        select(Job.state).where(Job.id == job, Job.attempt == attempt, Job.state.in_(("running", "canceling")))
    )


def datasets_of(session: Session, job: UUID) -> dict[str, Dataset]:
    """Fetch the data sets a job reads, by role."""
    joined = select(JobDataset.role, Dataset).join(Dataset, Dataset.id == JobDataset.dataset_id)
    return {row[0]: row[1] for row in session.execute(joined.where(JobDataset.job_id == job))}


def other_models_of(session: Session, job: UUID) -> Sequence[Model]:
    """Fetch the models a job reads besides its own."""
    joined = select(Model).join(JobModel, JobModel.model_id == Model.id)
    return session.scalars(joined.where(JobModel.job_id == job)).all()


def succeed(
    session: Session, job: UUID, attempt: int, *, report: dict[str, Any], artifacts: Sequence[Artifact]
) -> bool:
    """Make a result visible, exactly once; False when this attempt may no longer write."""
    done = move(
        job, "running", "succeeded", attempt=attempt, report=report, error=None, stage="done", fraction=1.0, **_END
    )
    return _finish(session, job, done, {"status": "succeeded"}, artifacts)


def fail(
    session: Session,
    job: UUID,
    attempt: int,
    *,
    error: dict[str, Any],
    report: dict[str, Any] | None = None,
    artifacts: Sequence[Artifact] = (),
) -> bool:
    """End an attempt with an error; what was delivered all the same stays for inspection, and its last checkpoint."""
    done = move(job, "running", "failed", attempt=attempt, error=error, report=report, **_END)
    return _finish(session, job, done, {"status": "failed", "error": error}, artifacts)


def cancel_finished(session: Session, job: UUID, attempt: int) -> bool:
    """Confirm that a canceled attempt has stopped."""
    return _finish(
        session,
        job,
        move(job, "canceling", "canceled", attempt=attempt, stage="canceled", **_END),
        {"status": "canceled"},
    )


def hand_back(session: Session, job: UUID, attempt: int) -> bool:
    """Return a running job to the queue without counting the attempt as lost (the worker is being drained)."""
    back = move(job, "running", "queued", attempt=attempt, **_WAIT, run_after=from_now())
    return _finish(session, job, back, {"status": "queued", "reason": "the worker is shutting down"})


def request_cancel(session: Session, job: UUID) -> bool:
    """Cancel a waiting job at once, or ask the worker of a running one to stop."""
    if _finish(session, job, move(job, "queued", "canceled", stage="canceled", **_END), {"status": "canceled"}):
        return True
    asked = move(job, "running", "canceling", stage="canceling")
    return _finish(session, job, asked, {"status": "canceling"})


def retry(session: Session, job: UUID) -> bool:
    """Queue a failed or canceled job again; what it delivered before is gone, its files with the next sweep.

    A failed job goes on from its checkpoints, a canceled one has none and begins anew.
    """
    fresh = {**_WAIT, "run_after": from_now(), "lost": 0, "error": None, "report": None, "finished_at": None}
    for state in ("failed", "canceled"):
        again = move(job, state, "queued", started_at=None, **fresh)
        if _finish(session, job, again, {"status": "queued", "reason": "retried"}):
            session.execute(delete(Artifact).where(Artifact.job_id == job))
            return True
    return False


def expired(session: Session) -> Sequence[Job]:
    """Fetch the jobs whose worker has not been heard of within its lease."""
    return session.scalars(
        select(Job)
        .where(Job.state.in_(("running", "canceling")), Job.lease_until < from_now())
        .with_for_update(skip_locked=True)
    ).all()


def give_up_on(session: Session, gone: Job, *, backoff_s: float, error: dict[str, Any]) -> bool:
    """Take a job from a worker that is gone: cancel it if that was asked, else `lose` the attempt."""
    if gone.state == "canceling":
        return cancel_finished(session, gone.id, gone.attempt)
    return lose(session, gone, backoff_s=backoff_s, error=error)


def lose(session: Session, job: Job, *, backoff_s: float, error: dict[str, Any]) -> bool:
    """Count an attempt as lost: queue the job again, later each time, or fail it when no attempt is left."""
    if job.lost + 1 >= job.max_attempts:
        ended = move(job.id, "running", "failed", attempt=job.attempt, lost=job.lost + 1, error=error, **_END)
        return _finish(session, job.id, ended, {"status": "failed", "error": error})
    wait = from_now(backoff_s * 2**job.lost)
    again = move(job.id, "running", "queued", attempt=job.attempt, lost=job.lost + 1, run_after=wait, **_WAIT)
    return _finish(session, job.id, again, {"status": "queued", "reason": error["detail"]})


def artifact(session: Session, tenant: str, artifact_id: UUID) -> Artifact | None:
    """Fetch one artifact of a tenant, unless its job is being tried again."""
    statement = (
        select(Artifact)
        .join(Job, and_(Job.id == Artifact.job_id, Job.attempt == Artifact.attempt))
        .where(Artifact.id == artifact_id, Artifact.tenant == tenant, Job.state.not_in(LIVE))
    )
    return session.scalar(statement)


def artifacts_of(session: Session, job: Job) -> Sequence[Artifact]:
    """Fetch what the job's deciding attempt delivered; nothing while it is being tried (again)."""
    if job.state in LIVE:
        return ()
    current = and_(Artifact.job_id == job.id, Artifact.attempt == job.attempt)
    models_first = Artifact.kind.desc()  # "model" comes after "data" and "checkpoint"
    return session.scalars(select(Artifact).where(current).order_by(Artifact.target, models_first, Artifact.name)).all()


_END: dict[str, Any] = {"finished_at": from_now(), "lease_until": None}
_WAIT: dict[str, Any] = {
    "published_at": None,
    "lease_until": None,
    "worker": None,
    "stage": "queued",
    "message": "",
    "step": 0,
    "fraction": 0.0,
}


def _finish(
    session: Session, job: UUID, statement: Any, event: dict[str, Any], artifacts: Sequence[Artifact] = ()
) -> bool:
    moved = session.scalar(statement.returning(Job), execution_options={"populate_existing": True})
    if moved is None:
        return False
    session.add_all(artifacts)
    if moved.kind == "inspect":
        inspections.record(session, moved)
    match event["status"]:
        case "succeeded" | "canceled":
            checkpoints.drop(session, job)
        case "failed":
            session.add_all(checkpoints.last_step(session, job))
    events.add(session, job, "state", event)
    return True
