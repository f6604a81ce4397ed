"""Brings what a child delivered into the store, under keys that only this attempt writes."""

from pathlib import Path

from app.db.tables import Artifact, Job
from app.ids import new_id
from app.spec.work import ArtifactFile, WorkResult
from app.storage import Store
from worker.runtime.results import OUT
from worker.runtime.untrusted_dir import UntrustedDir


def store_artifacts(store: Store, job: Job, directory: Path, result: WorkResult) -> list[Artifact]:
    """Upload every delivered file and return the rows that will make them visible.

    Raises storage errors, and OSError where a file is no longer what it was when the result was checked.
    """
    out = directory / OUT
    with UntrustedDir(out) as folder:
        return [_stored(store, job, out / file.file, folder.sha256(file.file), file) for file in result.artifacts]


def _stored(store: Store, job: Job, path: Path, sha256: str, file: ArtifactFile) -> Artifact:
    key = f"artifacts/{job.id.hex}/{job.attempt}/{sha256}"
    store.put(key, path, sha256=sha256, media_type=file.media_type)
    return Artifact(
        id=new_id(),
        tenant=job.tenant,
        job_id=job.id,
        attempt=job.attempt,
        name=file.file,
        kind=file.kind,
        media_type=file.media_type,
        target=file.target,
        sha256=sha256,
        bytes=path.stat().st_size,
        key=key,
    )
