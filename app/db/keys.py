"""Which stored objects are still needed."""

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.db.tables import Artifact, Dataset, Model, Upload


def is_referred_to(session: Session, key: str) -> bool:
    """Whether a model, a data set, an artifact or an unfinished upload has its bytes under this key."""
    statement = select(
        exists().where(Model.key == key, Model.deleted_at.is_(None))
        | exists().where(Dataset.key == key, Dataset.deleted_at.is_(None))
        | exists().where(Artifact.key == key)
        | exists().where(Upload.key == key, Upload.state.in_(("open", "completing")))
    )
    return bool(session.scalar(statement))
