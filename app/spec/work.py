"""What a worker hands to the jailed child that does the work, and what comes back. Files, no credentials.

Paths are relative to the job's directory: the child can see nothing else.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.spec.base import Frozen, ModelId
from app.spec.data import DatasetInfo, DatasetSpec
from app.spec.job import JobSpec, Role
from app.spec.report import ArtifactOrigin, Report
from app.spec.signature import ModelInfo
from app.spec.targets import Target

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,120}$")]

MediaType = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,40}/[a-z0-9.+-]{1,60}$")]
"""Type and subtype, without parameters: it becomes a header of downloads."""


class ModelFile(Frozen):
    """The uploaded model on disk."""

    path: str
    sha256: str
    bytes: int
    info: ModelInfo


class DataFile(Frozen):
    """One role's rows: a data set on disk and the split to take (None: all rows)."""

    path: str
    info: DatasetInfo
    spec: DatasetSpec
    split: str | None


class GivenFile(Frozen):
    """A file of a delivered artifact on disk."""

    path: str
    sha256: str


class GivenArtifact(Frozen):
    """An artifact that an earlier job delivered, to be evaluated as it is."""

    origin: ArtifactOrigin
    target: Target
    files: tuple[GivenFile, ...] = Field(min_length=1, description="The loadable one first.")


class WorkOrder(Frozen):
    """One attempt at a job."""

    job: str
    attempt: int
    spec: JobSpec
    model: ModelFile
    data: dict[Role, DataFile]
    teachers: dict[ModelId, ModelFile] = Field(default_factory=dict)
    """Other models that steps refer to, by id."""
    artifacts: tuple[GivenArtifact, ...] = ()
    """In place of the spec's targets, whose order is theirs."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(description="Size of every thread pool, except where the spec asks to measure another.")


WorkKind = Literal["compress", "inspect", "compatibility"]
"""What a job of the queue is: one that somebody submitted, or a look of the service's own at an uploaded model."""

ArtifactKind = Literal["model", "checkpoint", "data"]


class ArtifactFile(Frozen):
    """A file the child wrote into `out/`."""

    file: FileName
    kind: ArtifactKind
    media_type: MediaType
    target: int | None = Field(None, ge=0, lt=256, description="Index into the spec's targets.")


class WorkResult(Frozen):
    """What the child delivers, written to `result.json` when everything else is on disk."""

    report: Report
    artifacts: tuple[ArtifactFile, ...] = Field(max_length=256)
