"""The tables. Every row that a person can own carries its tenant; every query by a person filters by it."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.db.types import Json, UtcTime, from_now
from app.spec.progress import JobProgress
from app.spec.work import WorkKind

JobState = Literal["queued", "running", "canceling", "succeeded", "failed", "canceled"]
UploadState = Literal["open", "completing", "completed", "aborted"]
TaskState = Literal["queued", "leased", "done", "failed", "dropped"]

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The mapped tables' common root."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy reads it off the class
        datetime: UtcTime,
        dict[str, Any]: Json,
        JobState: String(16),
        UploadState: String(16),
        TaskState: String(16),
        int: BigInteger,
    }


class Admitted:
    """What models and data sets have in common: an owner, a name, bytes in the store, what admission found."""

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(200))
    labels: Mapped[dict[str, Any]]
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int]
    key: Mapped[str] = mapped_column(String(300))
    info: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(insert_default=from_now())
    deleted_at: Mapped[datetime | None]


class Model(Admitted, Base):
    """An uploaded model."""

    __tablename__ = "models"

    inspection: Mapped[dict[str, Any] | None]
    """`status`, and what was found or why not; None: nobody looks at it."""


class Dataset(Admitted, Base):
    """An uploaded data set and how its rows are to be used."""

    __tablename__ = "datasets"

    spec: Mapped[dict[str, Any]]


class Upload(Base):
    """A multipart upload under way; `resource` is what it became."""

    __tablename__ = "uploads"
    __table_args__ = (CheckConstraint("state IN ('open', 'completing', 'completed', 'aborted')", name="state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    request: Mapped[dict[str, Any]]
    key: Mapped[str] = mapped_column(String(300))
    token: Mapped[str] = mapped_column(String(1024))
    part_bytes: Mapped[int]
    state: Mapped[UploadState] = mapped_column(default="open")
    resource: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(insert_default=from_now())
    expires_at: Mapped[datetime]


class Job(Base):
    """A job and where it stands. `attempt` fences: only the newest attempt may write."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("tenant", "idempotency_key"),
        CheckConstraint("state IN ('queued', 'running', 'canceling', 'succeeded', 'failed', 'canceled')", name="state"),
        Index("ix_jobs_state_run_after", "state", "run_after"),
        Index("ix_jobs_tenant_id", "tenant", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    kind: Mapped[WorkKind] = mapped_column(String(16), default="compress")
    """Only people's own jobs, `compress`, are shown to them."""
    name: Mapped[str] = mapped_column(String(200))
    labels: Mapped[dict[str, Any]]
    spec: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), index=True)
    queue: Mapped[str] = mapped_column(String(16))

    state: Mapped[JobState] = mapped_column(default="queued")
    attempt: Mapped[int] = mapped_column(default=0)
    lost: Mapped[int] = mapped_column(default=0)
    """Attempts that ended with their worker; a drain does not count."""
    max_attempts: Mapped[int]
    run_after: Mapped[datetime] = mapped_column(insert_default=from_now())
    published_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(String(200))

    stage: Mapped[str] = mapped_column(String(200), default="queued")
    step: Mapped[int] = mapped_column(default=0)
    steps: Mapped[int] = mapped_column(default=0)
    fraction: Mapped[float] = mapped_column(Float, default=0.0)
    message: Mapped[str] = mapped_column(String(500), default="")
    events: Mapped[int] = mapped_column(default=0)
    """Number of the newest event."""

    error: Mapped[dict[str, Any] | None]
    report: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(insert_default=from_now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @property
    def progress(self) -> JobProgress:
        """How far the present attempt is."""
        return JobProgress(
            stage=self.stage, step=self.step, steps=self.steps, fraction=self.fraction, message=self.message
        )


class JobDataset(Base):
    """Which data sets a job reads, so that none is deleted under it."""

    __tablename__ = "job_datasets"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"), index=True)


class JobModel(Base):
    """Which models a job reads besides its own (teachers), so that none is deleted under it."""

    __tablename__ = "job_models"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), primary_key=True, index=True)


class Artifact(Base):
    """A delivered file. Rows appear with the transaction that ends the job, or not at all."""

    __tablename__ = "artifacts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), index=True)
    attempt: Mapped[int]
    name: Mapped[str] = mapped_column(String(128))
    kind: Mapped[str] = mapped_column(String(16))
    media_type: Mapped[str] = mapped_column(String(100))
    target: Mapped[int | None]
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int]
    key: Mapped[str] = mapped_column(String(300), index=True)
    created_at: Mapped[datetime] = mapped_column(insert_default=from_now())


class Checkpoint(Base):
    """The newest file of this name that an attempt kept for the next one; only the newest attempt may write."""

    __tablename__ = "checkpoints"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    attempt: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int]
    key: Mapped[str] = mapped_column(String(300), index=True)
    created_at: Mapped[datetime] = mapped_column(insert_default=from_now())


class Event(Base):
    """What happened to a job, numbered from 1 without gaps."""

    __tablename__ = "events"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(insert_default=from_now())
    kind: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]]


class Worker(Base):
    """A worker process that has been heard of lately."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    queue: Mapped[str] = mapped_column(String(16), index=True)
    facts: Mapped[dict[str, Any]]
    """Devices, the jail's effective layers, versions."""
    started_at: Mapped[datetime] = mapped_column(insert_default=from_now())
    seen_at: Mapped[datetime] = mapped_column(insert_default=from_now())


class PeriodicRun(Base):
    """When a periodic task last ran that one process at a time performs; one long ago is an alarm."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    ran_at: Mapped[datetime]


class Agent(Base):
    """A device that measures. Only digests of secrets are kept."""

    __tablename__ = "agents"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(200))
    labels: Mapped[dict[str, Any]]
    facts: Mapped[dict[str, Any]]
    credential_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(insert_default=from_now())
    seen_at: Mapped[datetime] = mapped_column(insert_default=from_now())
    revoked_at: Mapped[datetime | None]


class EnrolmentToken(Base):
    """Permission to enrol one agent, once, within a time."""

    __tablename__ = "enrolment_tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    labels: Mapped[dict[str, Any]]
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(insert_default=from_now())
    expires_at: Mapped[datetime]
    agent_id: Mapped[UUID | None] = mapped_column(ForeignKey("agents.id"))
    """Whom it enrolled; a token that has one is spent."""


class AgentTask(Base):
    """Something that an attempt at a job wants measured on a device. `attempt` fences, as a job's does."""

    __tablename__ = "agent_tasks"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'leased', 'done', 'failed', 'dropped')", name="state"),
        Index("ix_agent_tasks_agent_id_state", "agent_id", "state"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    agent_id: Mapped[UUID] = mapped_column(ForeignKey("agents.id"))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), index=True)
    job_attempt: Mapped[int]
    payload: Mapped[dict[str, Any]]

    state: Mapped[TaskState] = mapped_column(default="queued")
    attempt: Mapped[int] = mapped_column(default=0)
    lost: Mapped[int] = mapped_column(default=0)
    """Attempts that ended with silence; handing the task back does not count."""
    lease_until: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(insert_default=from_now())
    finished_at: Mapped[datetime | None]


class AgentTaskFile(Base):
    """A stored file that belongs to a task; the agent knows it by its digest."""

    __tablename__ = "agent_task_files"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("agent_tasks.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int]
    key: Mapped[str] = mapped_column(String(300), index=True)
