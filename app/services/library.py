"""Models and data sets: what was admitted, whose it is, where its bytes are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import UUID

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
        new = new_id()
        key = stored_at or self._keep("models", new, arrival)
        return self._insert(
            Model(
                id=new,
                tenant=tenant,
                name=arrival.name,
                labels=dict(arrival.labels),
                sha256=arrival.sha256,
                bytes=arrival.bytes,
                key=key,
                info=info.model_dump(mode="json"),
            )
        )

    def add_dataset(self, tenant: str, arrival: Arrival, spec: DatasetSpec, *, stored_at: str | None = None) -> Dataset:
        """Admit a data set (`AdmissionError` if it is not fit) and keep it."""
        info = admit_dataset(arrival.path, spec, max_inflated_bytes=self._inflated)
        new = new_id()
        key = stored_at or self._keep("datasets", new, arrival)
        return self._insert(
            Dataset(
                id=new,
                tenant=tenant,
                name=arrival.name,
                labels=dict(arrival.labels),
                sha256=arrival.sha256,
                bytes=arrival.bytes,
                key=key,
                spec=spec.model_dump(mode="json"),
                info=info.model_dump(mode="json"),
            )
        )

    def one(self, table: type[Resource], tenant: str, public_id: str) -> Resource:
        """Fetch a model or data set, or raise `NotFound`."""
        prefix = PREFIX[table]
        uuid = parse(prefix, public_id)
        with self._database.read() as session:
            found = uploads.of(session, table, tenant, uuid)
        if found is None:
            raise NotFound(f"There is no such {NAMES[prefix]}.")
        return found

    def page(
        self, table: type[Resource], tenant: str, *, limit: int, after: UUID | None, labels: Mapping[str, str]
    ) -> tuple[Sequence[Resource], bool]:
        """Fetch a page, newest first, and whether there is more."""
        with self._database.read() as session:
            rows = uploads.page(table, tenant)
            return pages.cut(session, rows, table, limit=limit, after=after, labels=labels)

    def delete(self, table: type[Resource], tenant: str, public_id: str) -> None:
        """Delete a model or data set that no unfinished job reads; raises `InUse`, `NotFound`."""
        prefix = PREFIX[table]
        uuid = parse(prefix, public_id)
        with self._database.write() as session:
            found = uploads.of(session, table, tenant, uuid, lock="delete")
            if found is None:
                raise NotFound(f"There is no such {NAMES[prefix]}.")
            users = jobs.live_users(
                session, model=uuid if table is Model else None, dataset=uuid if table is Dataset else None
            )
            if users:
                raise InUse(f"{users} unfinished job(s) read this {NAMES[prefix]}.")
            for inspecting in inspections.unfinished(session, uuid):
                jobs.request_cancel(session, inspecting)
            uploads.delete(session, table, uuid)
        self._store.delete(found.key)

    def _keep(self, folder: str, new: UUID, arrival: Arrival) -> str:
        key = f"{folder}/{new.hex}"
        self._store.put(key, arrival.path, sha256=arrival.sha256, media_type="application/octet-stream")
        return key

    def _insert(self, row: Resource) -> Resource:
        with self._database.write() as session:
            session.add(row)
            if isinstance(row, Model) and self._inspects:
                inspections.begin(session, row)
        return row
