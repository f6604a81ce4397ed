"""Multipart uploads: parts go straight to S3 where there is one, through the service where there is not."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from app.admission import AdmissionError
from app.db import uploads
from app.db.database import Database
from app.db.tables import Upload, UploadState
from app.db.types import from_now
from app.ids import NotFound, new_id, parse, public
from app.services.errors import DigestMismatch, PartsMissing, UploadNotOpen, UploadTooLarge
from app.services.library import Arrival, Library
from app.settings import SPOOL_PREFIX, Settings
from app.spec.architecture import Architecture
from app.spec.base import Frozen, Labels, Name
from app.spec.data import DatasetSpec
from app.storage import MAX_PARTS, Part, Store
from app.storage.errors import PartsMismatch, UploadGone

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class UploadRequest(Frozen):
    """The body of `POST /uploads`: what is coming."""

    kind: Literal["model", "dataset"]
    name: Name
    labels: Labels = Field(default_factory=dict)
    bytes: int = Field(gt=0, description="Size of the whole file.")
    sha256: Sha256 | None = Field(None, description="Compared with what arrives, if given.")
    dataset: DatasetSpec | None = Field(None, description="How the rows are to be used (kind 'dataset').")

    architecture: Architecture | None = Field(None, description="What weights are of (kind 'model').")

    @model_validator(mode="after")
    def _spec_belongs_to_kind(self) -> "UploadRequest":
        if self.kind == "model" and self.dataset is not None:
            raise ValueError("'dataset' describes a data set; this is a model")
        if self.kind == "dataset" and self.architecture is not None:
            raise ValueError("'architecture' describes a model's weights; this is a data set")
        return self


@dataclass(frozen=True)
class PartSlot:
    """One part to send: its number, its size in bytes and the URL that takes it (None: the service does)."""

    number: int
    bytes: int
    url: str | None


class Uploads:
    """Begins, receives, completes and aborts multipart uploads."""

    def __init__(self, database: Database, store: Store, library: Library, settings: Settings) -> None:
        self._database = database
        self._store = store
        self._library = library
        self._settings = settings

    def begin(self, tenant: str, request: UploadRequest) -> Upload:
        """Open an upload; raises `UploadTooLarge`."""
        if request.bytes > self._settings.max_upload_bytes:
            raise UploadTooLarge(
                f"{request.bytes} bytes are announced, at most {self._settings.max_upload_bytes} are accepted.",
                pointer="/bytes",
            )
        new = new_id()
        key = f"uploads/{new.hex}"
        row = Upload(
            id=new,
            tenant=tenant,
            request=request.model_dump(mode="json"),
            key=key,
            token=self._store.begin(key),
            part_bytes=max(self._settings.part_bytes, math.ceil(request.bytes / MAX_PARTS)),
            expires_at=from_now(self._settings.upload_ttl_s),
        )
        with self._database.write() as session:
            session.add(row)
            session.flush()
            session.refresh(row)  # the expiry is the database's time
        return row

    def get(self, tenant: str, public_id: str) -> Upload:
        """Fetch an upload or raise `NotFound`."""
        with self._database.read() as session:
            upload = uploads.upload(session, tenant, parse("upl", public_id))
        if upload is None:
            raise NotFound("There is no such upload.")
        return upload

    def slots(self, upload: Upload) -> list[PartSlot]:
        """List the parts to send, with fresh links; none once the upload is no longer open."""
        if upload.state != "open":
            return []
        total = int(upload.request["bytes"])
        return [
            PartSlot(number, min(upload.part_bytes, total - start), self._link(upload, number))
            for number, start in enumerate(range(0, total, upload.part_bytes), 1)
        ]

    def receive(self, upload: Upload, number: int, part: Path) -> str:
        """Keep one part that came through the service; returns its ETag."""
        _require_open(upload)
        slot = next((slot for slot in self.slots(upload) if slot.number == number), None)
        if slot is None:
            raise PartsMissing(f"There is no part {number}.")
        arrived = part.stat().st_size
        if arrived != slot.bytes:
            raise DigestMismatch(f"Part {number} is {slot.bytes} bytes; {arrived} arrived.")
        return self._store.write_part(upload.key, upload.token, number, part)

    def complete(self, tenant: str, upload: Upload, parts: Sequence[Part]) -> str:
        """Join the parts, admit the file, and return the id of the model or data set it became.

        Completing twice gives the same answer. A file that is refused aborts the upload; after any other failure it
        is open again, so that it can be completed or given up.
        """
        if upload.state == "completed" and upload.resource:
            return upload.resource
        _require_open(upload)
        expected = math.ceil(int(upload.request["bytes"]) / upload.part_bytes)
        if [part.number for part in parts] != list(range(1, expected + 1)):
            raise PartsMismatch(f"The upload has the parts 1 to {expected}; the request lists others.")
        if not self._move(upload.id, "open", "completing"):
            raise UploadNotOpen("Another request is completing this upload.")
        try:
            self._join(upload, parts)
            resource = self._admit(tenant, upload)
        except (AdmissionError, DigestMismatch):
            self._move(upload.id, "completing", "aborted")
            self._store.delete(upload.key)
            raise
        except BaseException:
            self._move(upload.id, "completing", "open")  # wrong parts, storage away, a defect of ours, an interrupt
            raise
        self._move(upload.id, "completing", "completed", resource)
        return resource

    def abort(self, upload: Upload) -> None:
        """Give up an open upload; its parts are deleted."""
        if upload.state == "aborted":
            return
        if not self._move(upload.id, "open", "aborted"):
            raise UploadNotOpen("The upload was completed already.")
        self._store.abort(upload.key, upload.token)

    def _join(self, upload: Upload, parts: Sequence[Part]) -> None:
        try:
            self._store.complete(upload.key, upload.token, parts)
        except UploadGone:
            self._store.size(upload.key)  # an earlier try joined them and failed later; else ObjectMissing

    def _admit(self, tenant: str, upload: Upload) -> str:
        request = UploadRequest.model_validate(upload.request)
        self._settings.scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._settings.scratch, prefix=SPOOL_PREFIX) as folder:
            arrival = self._bring(upload, request, Path(folder) / "file")
            arrival.require(size=request.bytes, sha256=request.sha256)
            if request.kind == "model":
                model = self._library.add_model(tenant, arrival, request.architecture, stored_at=upload.key)
                return public("mdl", model.id)
            spec = request.dataset or DatasetSpec()
            return public("ds", self._library.add_dataset(tenant, arrival, spec, stored_at=upload.key).id)

    def _bring(self, upload: Upload, request: UploadRequest, path: Path) -> Arrival:
        # The digest a client announces is a claim; what is recorded is computed from the bytes.
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            for chunk in self._store.read(upload.key):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
        return Arrival(path, size, digest.hexdigest(), request.name, request.labels)

    def _link(self, upload: Upload, number: int) -> str | None:
        return self._store.part_link(upload.key, upload.token, number, expires_s=self._settings.upload_ttl_s)

    def _move(self, upload: UUID, source_state: UploadState, to: UploadState, resource: str | None = None) -> bool:
        with self._database.write() as session:
            return uploads.move(session, upload, source_state, to, resource=resource)


def _require_open(upload: Upload) -> None:
    if upload.state != "open":
        raise UploadNotOpen(f"The upload is {upload.state}.")
