"""Artifacts that a job is to evaluate: delivered earlier, by jobs of the same tenant, for the same model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import jobs
from app.db.tables import Artifact, Job
from app.ids import NotFound, parse
from app.services.errors import ArtifactUnfit
from app.spec.job import JobSpec
from app.spec.report import Report
from app.spec.targets import Target


@dataclass(frozen=True)
class Given:
    """A delivered artifact: all files of one target of a job."""

    artifact: str
    """The id by which it was named."""
    job: Job
    target: Target
    files: tuple[Artifact, ...]
    """The loadable one first."""


def given(session: Session, tenant: str, spec: JobSpec) -> list[Given]:
    """The artifacts that a job names, in its order. Raises `NotFound`, `ArtifactUnfit`."""
    model = parse("mdl", spec.model)
    artifacts = [
        _given(session, tenant, name, model, f"/artifacts/{place}") for place, name in enumerate(spec.artifacts)
    ]
    seen: set[tuple[UUID, str]] = set()
    for place, named in enumerate(artifacts):
        identity = named.job.id, named.target.label
        if identity in seen:
            raise ArtifactUnfit(
                f"{named.artifact} is of {named.target.label} of a job whose {named.target.label} is named already.",
                pointer=f"/artifacts/{place}",
                remedy="Name one file of each artifact: those beside it come along.",
            )
        seen.add(identity)
    return artifacts


def require_own_targets(spec: JobSpec, artifacts: Sequence[Given]) -> JobSpec:
    """The job with the targets that its artifacts were made for. Raises `ArtifactUnfit` where it asks for others."""
    targets = tuple(named.target for named in artifacts)
    if "targets" in spec.model_fields_set and spec.targets != targets:
        raise ArtifactUnfit(
            "Artifacts are evaluated for the targets that they were delivered for.",
            pointer="/targets",
            remedy="Leave `targets` out.",
        )
    return spec.model_copy(update={"targets": targets})


def _given(session: Session, tenant: str, name: str, model: UUID, pointer: str) -> Given:
    named = jobs.artifact(session, tenant, parse("art", name))
    job = jobs.of(session, tenant, named.job_id) if named is not None else None
    if named is None or job is None:
        raise NotFound("There is no such artifact.", pointer=pointer)
    if named.kind != "model" or named.target is None:
        raise ArtifactUnfit(f"{name} is no model: it is {named.name}.", pointer=pointer)
    if job.model_id != model:
        raise ArtifactUnfit(f"{name} was made from another model.", pointer=pointer)
    target = JobSpec.model_validate(job.spec).targets[named.target]
    beside = [file for file in jobs.artifacts_of(session, job) if (file.target, file.kind) == (named.target, "model")]
    first = next(_loadable(job, target), named.name)
    return Given(name, job, target, tuple(sorted(beside, key=lambda file: (file.name != first, file.name))))


def _loadable(job: Job, target: Target) -> Iterator[str]:
    """The file that the origin's report names: the one that is loaded."""
    report = Report.model_validate(job.report)
    return (delivered.artifact for delivered in report.targets if delivered.target == target)
