"""All SQL about what targets make of a model's operators: jobs of the service's own, which keep what they found."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import Job, Model
from app.ids import new_id
from app.spec.compatibility import CompatibilityWanted

ATTEMPTS = 2


def newest(session: Session, model: Model, key: str) -> Job | None:
    """Fetch the last look for this key at the model, or at any that the tenant uploaded with the same content."""
    same = select(Model.id).where(Model.tenant == model.tenant, Model.sha256 == model.sha256)
    looks = select(Job).where(Job.kind == "compatibility", Job.request_sha256 == key, Job.model_id.in_(same))
    return session.scalar(looks.order_by(Job.id.desc()).limit(1))


def begin(session: Session, model: Model, wanted: CompatibilityWanted, key: str) -> UUID:
    """Queue a job that asks a format's targets about the model; its id."""
    job = Job(
        id=new_id(),
        tenant=model.tenant,
        kind="compatibility",
        name="compatibility",
        labels={},
        spec=wanted.model_dump(mode="json"),
        request_sha256=key,
        model_id=model.id,
        queue="cpu",
        max_attempts=ATTEMPTS,
    )
    session.add(job)
    session.flush()
    return job.id
