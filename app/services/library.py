"""Models and data sets: what was admitted, whose it is, where its bytes are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from app.admission import admit_dataset, admit_model
from app.db import inspections, jobs, pages, uploads
from app.db.database import Database
from app.db.tables import Dataset, Model
from app.ids import NAMES, NotFound, Prefix, new_id, parse
from app.services.errors import DigestMismatch, InUse
from app.settings import Settings
from app.spec.architecture import Architecture
from app.spec.data import DatasetSpec
from app.storage import Store

Resource = TypeVar("Resource", Model, Dataset)
PREFIX: dict[type, Prefix] = {Model: "mdl", Dataset: "ds"}


@dataclass(frozen=True)
class Arrival:
    """A file that has arrived on local disk, counted and hashed on the way, and what its owner calls it."""

    path: Path
    bytes: int
    sha256: str
    name: str
    labels: Mapping[str, str]

    def require(self, *, size: int | None, sha256: str | None) -> None:
        """Compare with what the client announced; raises `DigestMismatch`."""
        if size is not None and size != self.bytes:
            raise DigestMismatch(f"{size} bytes were announced, {self.bytes} arrived.")
        if sha256 is not None and sha256 != self.sha256:
            raise DigestMismatch(f"SHA-256 {sha256} was announced, what arrived has {self.sha256}.")


class Library:
    """Admits, lists and deletes models and data sets."""

    def __init__(self, database: Database, store: Store, settings: Settings) -> None:
        self._database = database
        self._store = store
        self._inflated = settings.max_upload_bytes
        self._inspects = settings.inspect_uploads

    def add_model(
        self, tenant: str, arrival: Arrival, architecture: Architecture | None = None, *, stored_at: str | None = None
    ) -> Model:
        """Admit a model (`AdmissionError` if it is not fit) and keep it; `stored_at`: the store has the bytes.

        A worker looks at it when one has time.
        """
        info = admit_model(arrival.path, max_inflated_bytes=self._inflated, architecture=architecture)
        return self._keep(Model(**_fields(tenant, arrival), info=info.model_dump(mode="json")), arrival, stored_at)

    def add_dataset(self, tenant: str, arrival: Arrival, spec: DatasetSpec, *, stored_at: str | None = None) -> Dataset:
        """Admit a data set (`AdmissionError` if it is not fit) and keep it."""
        info = admit_dataset(arrival.path, spec, max_inflated_bytes=self._inflated)
        row = Dataset(**_fields(tenant, arrival), spec=spec.model_dump(mode="json"), info=info.model_dump(mode="json"))
        return self._keep(row, arrival, stored_at)

    def get(self, table: type[Resource], tenant: str, public_id: str) -> Resource:
        """Fetch a model or data set, or raise `NotFound`."""
        with self._database.read() as session:
            return find(session, table, tenant, public_id)

    def page(
        self, table: type[Resource], tenant: str, *, limit: int, after: UUID | None, labels: Mapping[str, str]
    ) -> tuple[Sequence[Resource], bool]:
        """Fetch a page, newest first, and whether there is more."""
        with self._database.read() as session:
            rows = uploads.page(table, tenant)
            return pages.cut(session, rows, table, limit=limit, after=after, labels=labels)

    def delete(self, table: type[Resource], tenant: str, public_id: str) -> None:
        """Delete a model or data set that no unfinished job reads; raises `InUse`, `NotFound`."""
        with self._database.write() as session:
            row = find(session, table, tenant, public_id, lock="delete")
            users = jobs.live_users(
                session, model=row.id if table is Model else None, dataset=row.id if table is Dataset else None
            )
            if users:
                raise InUse(f"{users} unfinished job(s) read this {NAMES[PREFIX[table]]}.")
            for inspecting in inspections.unfinished(session, row.id):
                jobs.request_cancel(session, inspecting)
            uploads.delete(session, table, row.id)
        self._store.delete(row.key)

    def _keep(self, row: Resource, arrival: Arrival, stored_at: str | None) -> Resource:
        """Store the bytes, unless the store has them, then the row that makes them visible."""
        row.key = stored_at or f"{row.__tablename__}/{row.id.hex}"
        if stored_at is None:
            self._store.put(row.key, arrival.path, sha256=arrival.sha256, media_type="application/octet-stream")
        with self._database.write() as session:
            session.add(row)
            if isinstance(row, Model) and self._inspects:
                inspections.begin(session, row)
        return row


def find(
    session: Session,
    table: type[Resource],
    tenant: str,
    public_id: str,
    *,
    lock: uploads.Lock | None = None,
    pointer: str | None = None,
) -> Resource:
    """Fetch a tenant's model or data set, or raise `NotFound`; `lock` holds until the transaction ends."""
    prefix = PREFIX[table]
    row = uploads.of(session, table, tenant, parse(prefix, public_id), lock=lock)
    if row is None:
        raise NotFound(f"There is no such {NAMES[prefix]}.", pointer=pointer)
    return row


def _fields(tenant: str, arrival: Arrival) -> dict[str, Any]:
    """What rows of models and of data sets share."""
    return {
        "id": new_id(),
        "tenant": tenant,
        "name": arrival.name,
        "labels": dict(arrival.labels),
        "sha256": arrival.sha256,
        "bytes": arrival.bytes,
    }
