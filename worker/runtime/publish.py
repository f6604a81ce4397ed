"""Brings what a child delivered into the store, under keys that only this attempt writes."""

import hashlib
import os
from pathlib import Path

from app.db.tables import Artifact, Job
from app.ids import new_id
from app.spec.work import ArtifactFile, WorkResult
from app.storage import Store

CHUNK_BYTES = 1 << 20
OUT = "out"


def store_artifacts(store: Store, job: Job, directory: Path, result: WorkResult) -> list[Artifact]:
    """Upload every delivered file and return the rows that will make them visible."""
    return [_store(store, job, directory / OUT / file.file, file) for file in result.artifacts]


def _store(store: Store, job: Job, path: Path, file: ArtifactFile) -> Artifact:
    digest = sha256_of(path)
    key = f"artifacts/{job.id.hex}/{job.attempt}/{digest}"
    store.put(key, path, sha256=digest, media_type=file.media_type)
    return Artifact(
        id=new_id(),
        tenant=job.tenant,
        job_id=job.id,
        attempt=job.attempt,
        name=file.file,
        kind=file.kind,
        media_type=file.media_type,
        target=file.target,
        sha256=digest,
        bytes=path.stat().st_size,
        key=key,
    )


def sha256_of(path: Path) -> str:
    """Digest of a file that hostile code may have written. Raises OSError if it is a link."""
    digest = hashlib.sha256()
    # The child wrote this directory: what has become a link since it was checked is not followed.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:  # noqa: PTH123
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
