"""What nobody refers to is removed, and nothing else."""

import hashlib
import os
import time
from datetime import timedelta
from pathlib import Path

import httpx
from sqlalchemy import update

from app.db.tables import Upload
from app.db.types import from_now
from app.ids import parse
from app.services.sweep import Sweeper
from app.storage import open_store
from tests.support.files import onnx_classifier
from tests.support.installation.client import OCTETS, accepted
from tests.support.installation.cluster import Cluster

NOW = timedelta(seconds=-2)
"""S3 servers round times to seconds, some of them up."""


def sweeper(cluster: Cluster) -> Sweeper:
    settings = cluster.installation.loaded()
    return Sweeper(cluster.database, open_store(settings), settings)


def begin(cluster: Cluster, content: bytes) -> dict:
    """Begin an upload and send its one part."""
    announced = {"kind": "model", "name": "m", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    upload = accepted(cluster.client.http.post("/uploads", json=announced)).json()
    sent = accepted(httpx.put(upload["parts"][0]["url"], content=content, headers=OCTETS, timeout=60))
    return upload | {"etag": sent.headers["ETag"]}


def complete(cluster: Cluster, upload: dict) -> httpx.Response:
    parts = [{"number": 1, "etag": upload["etag"]}]
    return cluster.client.http.post(f"/uploads/{upload['id']}/complete", json={"parts": parts})


def test_orphans_go_and_what_is_referred_to_stays(cluster: Cluster, tmp_path: Path) -> None:
    cluster.have_workers(1)
    job = cluster.client.submit(cluster.brief())
    assert cluster.client.wait(job)["status"] == "succeeded"
    store = open_store(cluster.installation.loaded())
    orphan = tmp_path / "file"
    orphan.write_bytes(b"an attempt that was given up on left this")
    key = f"artifacts/{job.removeprefix('job_')}/9/{'0' * 64}"
    store.put(key, orphan, sha256=hashlib.sha256(orphan.read_bytes()).hexdigest(), media_type="text/plain")
    lost = store.begin("uploads/whose-row-was-never-written")
    open_upload = begin(cluster, onnx_classifier(seed=3))

    removed = sweeper(cluster).remove_orphans(age=NOW)

    assert removed >= 2
    left = {stored.key for stored in store.list("")}
    assert key not in left
    assert lost not in {token for _, token in store.stale_uploads(_later())}
    artifact, _ = cluster.client.artifacts(job)
    assert len(cluster.client.download(artifact["id"])) == artifact["bytes"]
    assert cluster.client.wait(cluster.client.submit(cluster.brief(seed=2)))["status"] == "succeeded"
    assert accepted(complete(cluster, open_upload)).json()["status"] == "completed"


def test_an_upload_that_was_never_completed_is_aborted(cluster: Cluster) -> None:
    upload = begin(cluster, onnx_classifier(seed=4))
    with cluster.database.write() as session:
        overdue = update(Upload).where(Upload.id == parse("upl", upload["id"])).values(expires_at=from_now(-1))
        session.execute(overdue)

    assert sweeper(cluster).remove_orphans() >= 1

    assert cluster.client.get(f"/uploads/{upload['id']}")["status"] == "aborted"
    refused = complete(cluster, upload)
    assert (refused.status_code, refused.json()["code"]) == (409, "upload.not_open")


def test_files_that_a_killed_service_had_on_its_disk_are_removed(cluster: Cluster) -> None:
    scratch = cluster.installation.loaded().scratch
    old, new = scratch / "upload-old", scratch / "upload-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"half a model")
    long_ago = time.time() - 2 * 24 * 3600
    for path in (old / "file", old):
        os.utime(path, (long_ago, long_ago))

    assert sweeper(cluster).remove_spooled() == 1
    assert not old.exists()
    assert new.exists()


def _later():
    from datetime import UTC, datetime

    return datetime.now(UTC) + timedelta(minutes=1)
