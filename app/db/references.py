"""Which stored objects are still needed."""

from collections.abc import Sequence

from sqlalchemy import select, union_all
from sqlalchemy.orm import Session

from app.db.tables import AgentTask, AgentTaskFile, Artifact, Checkpoint, Dataset, Model, Upload


def unreferred(session: Session, keys: Sequence[str]) -> set[str]:
    """Choose the keys that no model, data set, artifact, checkpoint, unfinished upload or task has its bytes under."""
    referring = union_all(
        select(Model.key).where(Model.key.in_(keys), Model.deleted_at.is_(None)),
        select(Dataset.key).where(Dataset.key.in_(keys), Dataset.deleted_at.is_(None)),
        select(Artifact.key).where(Artifact.key.in_(keys)),
        select(Checkpoint.key).where(Checkpoint.key.in_(keys)),
        select(AgentTaskFile.key)
        .join(AgentTask, AgentTask.id == AgentTaskFile.task_id)
        .where(AgentTaskFile.key.in_(keys), AgentTask.state.in_(("queued", "leased"))),
        select(Upload.key).where(Upload.key.in_(keys), Upload.state.in_(("open", "completing"))),
    )
    return set(keys) - set(session.scalars(referring))
