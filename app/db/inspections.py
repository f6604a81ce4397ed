"""All SQL about looking at uploaded models: one job of the service's own each, its result in the model's row."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.states import LIVE
from app.db.tables import Job, Model
from app.ids import new_id

ATTEMPTS = 2


def begin(session: Session, model: Model) -> None:
    """Queue the inspection of a model that is being added."""
    model.inspection = {"status": "pending"}
    session.add(model)
    session.flush()
    session.add(
        Job(
            id=new_id(),
            tenant=model.tenant,
            kind="inspect",
            name="inspection",
            labels={},
            spec={},
            request_sha256="",
            model_id=model.id,
            queue="cpu",
            max_attempts=ATTEMPTS,
        )
    )


def unfinished(session: Session, model: UUID) -> Sequence[UUID]:
    """Find the service's own looks at a model that are queued or at work."""
    looking = select(Job.id).where(Job.model_id == model, Job.kind != "compress", Job.state.in_(LIVE))
    return session.scalars(looking).all()


def record(session: Session, job: Job) -> None:
    """Show in the model's row how its inspection ended, in the transaction that ends the job."""
    shown: dict[str, Any] | None = None
    if job.state == "succeeded":
        shown = {**(job.report or {}), "status": "ready"}
    elif job.state == "failed":
        shown = {"status": "failed", "error": job.error}
    if shown is not None:
        session.execute(update(Model).where(Model.id == job.model_id).values(inspection=shown))
