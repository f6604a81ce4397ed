"""All SQL about models, data sets and multipart uploads."""

from collections.abc import Sequence
from typing import Literal, TypeVar
from uuid import UUID

from sqlalchemy import Select, exists, select, update
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Model, Upload, UploadState
from app.db.types import from_now

Resource = TypeVar("Resource", Model, Dataset)
Lock = Literal["use", "delete"]


def of(
    session: Session, table: type[Resource], tenant: str, resource: UUID, *, lock: Lock | None = None
) -> Resource | None:
    """Fetch one model or data set of a tenant that was not deleted.

    Locking for use keeps it from being deleted until the transaction ends, and the other way round.
    """
    statement = page(table, tenant).where(table.id == resource)
    return session.scalar(statement if lock is None else statement.with_for_update(read=lock == "use"))


def page(table: type[Resource], tenant: str) -> Select[Resource]:
    """Select a tenant's models or data sets; `app.db.pages` cuts the page."""
    return select(table).where(table.tenant == tenant, table.deleted_at.is_(None))


def delete(session: Session, table: type[Resource], resource: UUID) -> None:
    """Hide a row; its object is removed by the sweep, its jobs keep their history."""
    session.execute(update(table).where(table.id == resource).values(deleted_at=from_now()))


def upload(session: Session, tenant: str, upload_id: UUID) -> Upload | None:
    """Fetch one multipart upload of a tenant."""
    return session.scalar(select(Upload).where(Upload.tenant == tenant, Upload.id == upload_id))


def move(
    session: Session, upload_id: UUID, source_state: UploadState, to: UploadState, *, resource: str | None = None
) -> bool:
    """Compare-and-set an upload's state; False if somebody else moved it first."""
    statement = (
        update(Upload)
        .where(Upload.id == upload_id, Upload.state == source_state)
        .values(state=to, resource=resource)
        .returning(Upload.id)
    )
    return session.scalar(statement) is not None


def overdue(session: Session) -> Sequence[Upload]:
    """Fetch the uploads that were never completed in time."""
    return session.scalars(
        select(Upload).where(Upload.state.in_(("open", "completing")), Upload.expires_at < from_now())
    ).all()


def is_open(session: Session, key: str) -> bool:
    """Whether an unfinished upload has this key, however old it is."""
    return bool(session.scalar(select(exists().where(Upload.key == key, Upload.state.in_(("open", "completing"))))))
