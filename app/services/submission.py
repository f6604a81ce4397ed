"""Submitting a job: whether it can be done is found out before it is queued, and the same request makes one job."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import events, jobs, workers
from app.db.database import Database
from app.db.tables import Dataset, Job, JobDataset, JobModel, Model
from app.ids import new_id
from app.services.applicability import check_importable
from app.services.devices import check_devices
from app.services.errors import IdempotencyMismatch
from app.services.evaluation import given, require_own_targets
from app.services.job_checks import DatasetFacts, check_job
from app.services.learning import asks_for_gpu
from app.services.library import find
from app.spec.base import ModelId
from app.spec.data import DatasetInfo, DatasetSpec
from app.spec.job import JobSpec, Role
from app.spec.signature import ModelInfo


@dataclass(frozen=True)
class Accepted:
    """What a job that passed every check will read, where it will run, and what its owner should know."""

    spec: JobSpec
    """The job as submitted, with the default metrics only where they can be measured."""
    model: Model
    others: dict[ModelId, Model]
    """Models that steps read besides it."""
    data: dict[Role, Dataset]
    queue: str
    warnings: tuple[str, ...]


def submit(database: Database, tenant: str, spec: JobSpec, key: str | None) -> Job:
    """Queue a job; the same idempotency key and body give the same job.

    Raises whatever `check` raises, and `IdempotencyMismatch`.
    """
    digest = hashlib.sha256(json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    try:
        with database.write() as session:
            return _known(session, tenant, key, digest) or _insert(session, tenant, spec, key, digest)
    except IntegrityError:
        # Another request with this key committed between our look and our insert: it is the job.
        with database.read() as session:
            known = _known(session, tenant, key, digest)
        if known is None:
            raise
        return known


def check(session: Session, tenant: str, spec: JobSpec) -> Accepted:
    """Find the job's model and data and require that every step, metric and target can work with them.

    The rows stay locked against deletion until the transaction ends. Raises `NotFound`, `ArtifactUnfit` and what
    `check_job` raises.
    """
    model = find(session, Model, tenant, spec.model, lock="use", pointer="/model")
    others = {
        other: find(session, Model, tenant, other, lock="use", pointer=f"/steps/{position}")
        for position, step in enumerate(spec.steps)
        for other in step.models()
    }
    data = {
        role: find(session, Dataset, tenant, ref.dataset, lock="use", pointer=f"/data/{role}")
        for role, ref in spec.data.refs().items()
    }
    if spec.artifacts:
        spec = require_own_targets(spec, given(session, tenant, spec))
    spec, warnings = check_job(
        spec,
        ModelInfo.model_validate(model.info),
        {other: ModelInfo.model_validate(row.info) for other, row in others.items()},
        {role: _facts(row) for role, row in data.items()},
    )
    if not_imported := (model.inspection or {}).get("not_imported"):
        check_importable(spec, not_imported)
    warnings = (*warnings, *check_devices(session, tenant, spec))
    queue = _queue(session, spec)
    if queue == "cpu" and any(asks_for_gpu(step) for step in spec.steps):
        warnings = (*warnings, "mixed_precision will not be used: no live worker has a GPU.")
    return Accepted(spec, model, others, data, queue, warnings)


def no_worker(session: Session, queue: str) -> str | None:
    """Say so when nobody alive serves a queue."""
    if workers.serving(session, queue):
        return None
    return f"waiting: no live worker serves the queue '{queue}'"


def _known(session: Session, tenant: str, key: str | None, digest: str) -> Job | None:
    known = jobs.by_idempotency_key(session, tenant, key) if key else None
    if known is not None and known.request_sha256 != digest:
        raise IdempotencyMismatch("This Idempotency-Key belongs to a job with another body.")
    return known


def _insert(session: Session, tenant: str, spec: JobSpec, key: str | None, digest: str) -> Job:
    accepted = check(session, tenant, spec)
    job = Job(
        id=new_id(),
        tenant=tenant,
        name=spec.name,
        labels=dict(spec.labels),
        spec=accepted.spec.model_dump(mode="json"),
        idempotency_key=key,
        request_sha256=digest,
        model_id=accepted.model.id,
        queue=accepted.queue,
        max_attempts=spec.max_attempts,
    )
    session.add(job)
    session.flush()
    for role, dataset in accepted.data.items():
        session.add(JobDataset(job_id=job.id, role=role, dataset_id=dataset.id))
    for model in accepted.others.values():
        session.add(JobModel(job_id=job.id, model_id=model.id))
    first: dict[str, Any] = {"status": "queued"}
    if accepted.warnings:
        first["warnings"] = list(accepted.warnings)
    events.add(session, job.id, "state", first)
    return job


def _facts(row: Dataset) -> DatasetFacts:
    return DatasetFacts(
        id=row.sha256,
        spec=DatasetSpec.model_validate(row.spec),
        info=DatasetInfo.model_validate(row.info),
    )


def _queue(session: Session, spec: JobSpec) -> str:
    # Post-training steps run on ONNX Runtime's CPU kernels: only training has a use for a GPU, where there is one.
    if spec.device == "auto" and any(step.requires().train for step in spec.steps):
        return "cuda" if workers.serving(session, "cuda") else "cpu"
    return "cuda" if spec.device == "cuda" else "cpu"
