"""What clients see: one class per resource, made from rows."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from app.api.compatibility import CompatibilityOut
from app.db.events import Kind
from app.db.tables import Agent, Artifact, Dataset, Event, Job, JobState, Model, Upload, UploadState
from app.ids import Prefix, public
from app.services.uploads import PartSlot
from app.spec.agents import AgentFacts
from app.spec.data import DatasetInfo, DatasetSpec
from app.spec.failure import Failure
from app.spec.inspection import Inspection
from app.spec.job import JobSpec
from app.spec.signature import ModelInfo


class ResourceOut(BaseModel):
    """Something that a list shows, by its id."""

    id: str


Item = TypeVar("Item", bound=ResourceOut)


class PageOut(BaseModel, Generic[Item]):
    """A page of a list, newest first; `next` goes into `?after=` for the following page."""

    data: list[Item]
    has_more: bool
    next: str | None = None

    @classmethod
    def of(cls, shown: list[Item], *, more: bool) -> "PageOut[Item]":
        """A page that ends with the last one shown."""
        return cls(data=shown, has_more=more, next=shown[-1].id if more else None)


class UploadedOut(ResourceOut):
    """A file that was uploaded: its name and labels, its length and digest."""

    name: str
    labels: dict[str, str]
    bytes: int
    sha256: str
    created_at: datetime


def _uploaded(prefix: Prefix, row: Model | Dataset) -> dict[str, Any]:
    """The fields of `UploadedOut`, and what admission read in the file."""
    names = ("name", "labels", "bytes", "sha256", "created_at", "info")
    return {"id": public(prefix, row.id)} | {name: getattr(row, name) for name in names}


class ModelOut(UploadedOut):
    """A model."""

    id: str = Field(examples=["mdl_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f"])
    info: ModelInfo

    @classmethod
    def of(cls, row: Model) -> "ModelOut":
        return cls.model_validate(_uploaded("mdl", row))


class InspectionPending(BaseModel):
    """A worker will look at the model when one has time."""

    status: Literal["pending"]


class InspectionFailed(BaseModel):
    """A worker could not look at the model; jobs may still work."""

    status: Literal["failed"]
    error: Failure


class InspectionReady(Inspection):
    """What a worker found out about the model."""

    status: Literal["ready"]


InspectionOut = Annotated[InspectionPending | InspectionFailed | InspectionReady, Field(discriminator="status")]


class ModelDetailOut(ModelOut):
    """A model, and what looking at it told: what it costs, and what each step could do to it."""

    inspection: InspectionOut | None = Field(description="None: this service looks at no models.")

    @classmethod
    def of(cls, row: Model) -> "ModelDetailOut":
        return cls.model_validate({**_uploaded("mdl", row), "inspection": row.inspection})


class DatasetOut(UploadedOut):
    """A data set."""

    id: str = Field(examples=["ds_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f"])
    spec: DatasetSpec
    info: DatasetInfo

    @classmethod
    def of(cls, row: Dataset) -> "DatasetOut":
        return cls.model_validate({**_uploaded("ds", row), "spec": row.spec})


class PartOut(BaseModel):
    """One part to PUT: where, and how many bytes."""

    number: int
    bytes: int
    url: str


class UploadOut(BaseModel):
    """A multipart upload. `resource` is the model or data set it became."""

    id: str = Field(examples=["upl_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f"])
    status: UploadState
    part_bytes: int
    parts: list[PartOut]
    resource: str | None
    expires_at: datetime

    @classmethod
    def of(cls, row: Upload, slots: list[PartSlot], base_url: str) -> "UploadOut":
        """Show a row; parts without a link of their own go through the service."""
        shown = public("upl", row.id)
        ours = f"{base_url}/uploads/{shown}/parts"
        parts = [
            PartOut(number=slot.number, bytes=slot.bytes, url=slot.url or f"{ours}/{slot.number}") for slot in slots
        ]
        return cls(
            id=shown,
            status=row.state,
            part_bytes=row.part_bytes,
            parts=parts,
            resource=row.resource,
            expires_at=row.expires_at,
        )


class ProgressOut(BaseModel):
    """How far a job is: `fraction` of the whole, `step` of `steps`, and the seconds left at this pace."""

    fraction: float
    step: int
    steps: int
    message: str
    eta_s: float | None


class JobOut(ResourceOut):
    """A job. `status` is its state, `stage` what is happening, in words."""

    id: str = Field(examples=["job_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f"])
    name: str
    labels: dict[str, str]
    status: JobState
    stage: str
    progress: ProgressOut
    attempt: int
    queue: str
    spec: JobSpec
    error: Failure | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: Job, stage: str, now: datetime) -> "JobOut":
        """Show a row; `now` is the service's clock, only used for the estimate."""
        done = 1.0 if row.state == "succeeded" else row.progress.overall
        eta = None
        if row.state == "running" and row.started_at and done > _ETA_FROM:
            eta = round((now - row.started_at).total_seconds() * (1 - done) / done, 1)
        return cls(
            id=public("job", row.id),
            name=row.name,
            labels=row.labels,
            status=row.state,
            stage=stage,
            progress=ProgressOut(
                fraction=round(done, 4), step=row.step, steps=row.steps, message=row.message, eta_s=eta
            ),
            attempt=row.attempt,
            queue=row.queue,
            spec=JobSpec.model_validate(row.spec),
            error=Failure.model_validate(row.error) if row.error else None,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )


_ETA_FROM = 0.05
"""Below this share of the work an estimate of the rest says nothing."""


class ArtifactOut(BaseModel):
    """A delivered file; `target` is its place in the job's `targets`."""

    id: str = Field(examples=["art_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f"])
    name: str
    kind: str
    media_type: str
    target: int | None
    bytes: int
    sha256: str
    created_at: datetime

    @classmethod
    def of(cls, row: Artifact) -> "ArtifactOut":
        return cls(
            id=public("art", row.id),
            name=row.name,
            kind=row.kind,
            media_type=row.media_type,
            target=row.target,
            bytes=row.bytes,
            sha256=row.sha256,
            created_at=row.created_at,
        )


class EventOut(BaseModel):
    """Something that happened to a job."""

    seq: int
    at: datetime
    kind: Kind
    data: dict[str, Any]

    @classmethod
    def of(cls, row: Event) -> "EventOut":
        return cls.model_validate(row, from_attributes=True)


class EventsOut(BaseModel):
    """Events in order; `next` goes into `?after=`. `ended`: no more will come."""

    data: list[EventOut]
    next: int
    ended: bool


class ValidationOut(BaseModel):
    """A job that would be accepted, and what its owner should know."""

    valid: Literal[True] = True
    queue: str
    warnings: list[str]
    compatibility: list[CompatibilityOut] = Field(
        description="What each target makes of the model as it was uploaded; 'pending' where a worker is finding out."
    )


class TokenOut(BaseModel):
    """A token that enrols one agent."""

    token: str
    expires_at: datetime


class AgentOut(ResourceOut):
    """A device agent; `seen_at` is when it last asked for work or said that it is at work."""

    id: str = Field(examples=["agt_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f"])
    name: str
    labels: dict[str, str]
    facts: AgentFacts
    created_at: datetime
    seen_at: datetime

    @classmethod
    def of(cls, row: Agent) -> "AgentOut":
        return cls(
            id=public("agt", row.id),
            name=row.name,
            labels=row.labels,
            facts=AgentFacts.model_validate(row.facts),
            created_at=row.created_at,
            seen_at=row.seen_at,
        )


class EnrolledOut(AgentOut):
    """An agent that was just enrolled, with its credential."""

    credential: str
