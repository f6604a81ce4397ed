"""Database, storage and service go away in the middle, and come back."""

import httpx
import psutil

from tests.support.installation.cluster import SECONDS, Cluster
from tests.support.installation.waiting import until


def test_a_restarted_database_does_not_cost_the_job(cluster: Cluster) -> None:
    cluster.have_workers(1)
    job = cluster.measuring(SECONDS)
    cluster.postgres.stop()
    alive = cluster.client.http.get("/livez")
    ready = cluster.client.http.get("/readyz")
    asked = cluster.client.http.get(f"/jobs/{job}")
    cluster.postgres.start()

    assert alive.status_code == 200
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "The database does not answer.")
    assert (asked.status_code, asked.json()["code"]) == (503, "database.unavailable")
    assert int(asked.headers["Retry-After"]) > 0
    ended = cluster.client.wait(job)
    assert ended["status"] == "succeeded"
    assert (ended["attempt"], cluster.row(job).lost) == (1, 0)  # it was back before the lease ran out
    assert len(cluster.artifact_rows(job)) == 2


def test_a_database_away_at_the_very_end_does_not_cost_the_result(cluster: Cluster) -> None:
    cluster.have_workers(0)
    worker = cluster.installation.start_worker(lease_s=60)
    job = cluster.measuring(SECONDS, max_attempts=1)
    (zygote,) = psutil.Process(worker.pid).children()
    cluster.postgres.stop()
    until(lambda: not zygote.children(), "the child to finish", 40)
    until(lambda: "OperationalError, trying again" in worker.said(), "the worker to miss the database")
    cluster.postgres.start()

    ended = cluster.client.wait(job)
    worker.stop()
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    assert len(cluster.client.artifacts(job)) == len(cluster.artifact_rows(job)) == 2


def test_a_storage_that_is_away_while_files_are_fetched_is_waited_for(cluster: Cluster) -> None:
    cluster.have_workers(1)
    spec = cluster.brief(max_attempts=1)
    cluster.s3.stop()
    job = cluster.client.submit(spec)  # needs no storage
    until(lambda: "StorageUnavailable, trying again" in cluster.workers[0].said(), "the worker to miss the storage")
    cluster.s3.start()

    ended = cluster.client.wait(job)
    assert (ended["status"], ended["error"]) == ("succeeded", None)


def test_a_storage_that_is_away_while_results_are_stored_is_waited_for(cluster: Cluster) -> None:
    cluster.have_workers(1)
    job = cluster.measuring(SECONDS, max_attempts=1)
    before = cluster.workers[0].said().count("StorageUnavailable, trying again")
    cluster.s3.stop()
    until(
        lambda: cluster.workers[0].said().count("StorageUnavailable, trying again") > before,
        "the worker to miss the storage",
    )
    assert cluster.client.job(job)["status"] == "running"
    cluster.s3.start()

    assert cluster.client.wait(job)["status"] == "succeeded"
    artifact, _ = cluster.client.artifacts(job)
    assert len(cluster.client.download(artifact["id"])) == artifact["bytes"]


def test_a_job_waiting_for_the_storage_can_be_canceled(cluster: Cluster) -> None:
    cluster.have_workers(1)
    spec = cluster.brief()
    before = cluster.workers[0].said().count("StorageUnavailable, trying again")
    cluster.s3.stop()
    job = cluster.client.submit(spec)
    until(
        lambda: cluster.workers[0].said().count("StorageUnavailable, trying again") > before,
        "the worker to miss the storage",
    )
    cluster.client.cancel(job)

    assert cluster.client.wait(job, 40)["status"] == "canceled"


def test_a_service_killed_before_it_sent_the_message_sends_it_later(cluster: Cluster) -> None:
    cluster.have_workers(1)
    spec = cluster.brief()
    cluster.redis.stop()  # so that nothing can be sent before the end
    answer = cluster.client.http.post("/jobs", json=spec)
    cluster.api.kill()
    cluster.redis.start()
    cluster.api = cluster.installation.serve("app")

    assert answer.status_code == httpx.codes.ACCEPTED
    assert cluster.client.wait(answer.json()["id"])["status"] == "succeeded"
