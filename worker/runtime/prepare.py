"""Lays out an attempt's directory: the files it needs, fetched and verified; one function for each kind of work."""

import logging
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from app.db import checkpoints, jobs
from app.db.database import Database
from app.db.tables import Checkpoint, Dataset, Job, Model
from app.ids import public
from app.services.evaluation import Given, given
from app.services.matching import resolve_split
from app.settings import Settings
from app.spec.compatibility import OWN, CompatibilityOrder, CompatibilityWanted
from app.spec.data import DatasetInfo, DatasetSpec
from app.spec.inspection import InspectionOrder
from app.spec.job import JobSpec, Role
from app.spec.report import ArtifactOrigin
from app.spec.signature import ModelInfo
from app.spec.work import DataFile, GivenArtifact, GivenFile, ModelFile, WorkOrder
from app.storage import Store
from app.storage.errors import ObjectCorrupt, ObjectMissing
from worker.engine.checkpoints import FOLDER as CHECKPOINTS
from worker.engine.toolchains.environments import Environments
from worker.runtime.fingerprints import fingerprints_of

log = logging.getLogger(__name__)

MODEL_FILE = "model"
ARTIFACT_FOLDER = "artifact"


Order = WorkOrder | InspectionOrder | CompatibilityOrder


def inspection(database: Database, store: Store, settings: Settings, job: Job, directory: Path) -> InspectionOrder:
    """Fetch the model that is to be looked at. Raises storage errors."""
    with database.read() as session:
        model = _model(session, job)
    return InspectionOrder(model=_fetched(store, model, directory, MODEL_FILE), threads=settings.threads)


def compatibility(
    database: Database, store: Store, settings: Settings, job: Job, directory: Path
) -> CompatibilityOrder:
    """Fetch the model that runtimes are to be asked about. Raises storage errors."""
    with database.read() as session:
        model = _model(session, job)
    wanted = CompatibilityWanted.model_validate(job.spec)
    return CompatibilityOrder(
        model=_fetched(store, model, directory, MODEL_FILE),
        targets=wanted.targets,
        threads=settings.threads,
        knowledge=fingerprints_of(Environments(settings.toolchains_dir)).get(wanted.targets[0].toolchain or OWN, ""),
    )


def compression(database: Database, store: Store, settings: Settings, job: Job, directory: Path) -> WorkOrder:
    """Fetch what a submitted job reads, and what its earlier attempts left. Raises storage errors.

    A data set that plays several roles is fetched once.
    """
    spec = JobSpec.model_validate(job.spec)
    with database.read() as session:
        model = _model(session, job)
        datasets = jobs.datasets_of(session, job.id)
        others = jobs.other_models_of(session, job.id)
        kept = checkpoints.of(session, job.id)
        artifacts = given(session, job.tenant, spec)
    original = _fetched(store, model, directory, MODEL_FILE)
    teachers = {
        public("mdl", other.id): _fetched(store, other, directory, f"{MODEL_FILE}-{other.id.hex}") for other in others
    }
    data: dict[Role, DataFile] = {}
    for role, ref in spec.data.refs().items():
        row = datasets[role]
        path = f"data-{row.id.hex}"
        if not (directory / path).exists():
            store.fetch(row.key, directory / path, sha256=row.sha256)
        data[role] = _data_file(role, row, path, ref.split)
    _lay_out(store, kept, directory / CHECKPOINTS)
    return WorkOrder(
        job=public("job", job.id),
        attempt=job.attempt,
        spec=spec,
        model=original,
        data=data,
        teachers=teachers,
        artifacts=tuple(_delivered(store, artifact, directory, number) for number, artifact in enumerate(artifacts)),
        device="cuda" if settings.queue == "cuda" else "cpu",
        threads=settings.threads,
    )


def _delivered(store: Store, artifact: Given, directory: Path, number: int) -> GivenArtifact:
    """Fetch the files of an artifact, by their digests, under their names: some name each other."""
    folder = directory / f"{ARTIFACT_FOLDER}-{number}"
    folder.mkdir()
    for file in artifact.files:
        store.fetch(file.key, folder / file.name, sha256=file.sha256)
    return GivenArtifact(
        origin=ArtifactOrigin(
            artifact=artifact.artifact, job=public("job", artifact.job.id), job_name=artifact.job.name
        ),
        target=artifact.target,
        files=tuple(GivenFile(path=f"{folder.name}/{file.name}", sha256=file.sha256) for file in artifact.files),
    )


def _lay_out(store: Store, kept: Sequence[Checkpoint], folder: Path) -> None:
    """Put what earlier attempts kept where the engine looks for it. A file that is lost costs time, not the job."""
    folder.mkdir(exist_ok=True)
    for checkpoint in kept:
        try:
            store.fetch(checkpoint.key, folder / checkpoint.name, sha256=checkpoint.sha256)
        except (ObjectMissing, ObjectCorrupt) as error:
            log.warning("job_%s: checkpoint %s is left out: %s", checkpoint.job_id.hex, checkpoint.name, error.detail)


def _model(session: Session, job: Job) -> Model:
    model = session.get(Model, job.model_id)
    if model is None:
        raise LookupError(f"job {job.id} refers to a model that has no row")
    return model


def _fetched(store: Store, model: Model, directory: Path, path: str) -> ModelFile:
    store.fetch(model.key, directory / path, sha256=model.sha256)
    return ModelFile(path=path, sha256=model.sha256, bytes=model.bytes, info=ModelInfo.model_validate(model.info))


def _data_file(role: Role, row: Dataset, path: str, split: str | None) -> DataFile:
    """Describe a data set that lies at `path` of a job's directory, and the split of it that a role means."""
    spec = DatasetSpec.model_validate(row.spec)
    info = DatasetInfo.model_validate(row.info)
    return DataFile(path=path, info=info, spec=spec, split=resolve_split(role, split, info, spec))
