"""The broker may lose, repeat or garble everything: the row is the truth."""

import pickle
from pathlib import Path

import httpx
import kombu
import pytest
import redis as redis_client

from app.api.components import Components
from app.db import jobs
from app.ids import new_id
from app.queue import QueueUnavailable, make_celery
from app.queue.publisher import TASK
from app.services.dispatch import Dispatcher
from app.settings import Settings
from app.spec.job import JobSpec
from tests.support.files import onnx_classifier
from tests.support.installation.cluster import Cluster, uuid
from tests.support.installation.waiting import until
from tests.support.migrated import migrate_sqlite


def test_a_flushed_broker_delays_a_job_and_loses_none(cluster: Cluster) -> None:
    cluster.have_workers(1)
    ahead = cluster.measuring()
    job = cluster.client.submit(cluster.brief())
    until(cluster.waiting_messages, "the job's message")
    cluster.redis.flush()
    cluster.client.cancel(ahead)

    assert cluster.client.wait(job)["status"] == "succeeded"
    assert cluster.client.states(job) == ["queued", "running", "succeeded"]


def test_jobs_are_accepted_while_the_broker_is_away(cluster: Cluster) -> None:
    cluster.have_workers(1)
    before = cluster.client.wait(cluster.client.submit(cluster.brief()))["status"]
    cluster.redis.stop()
    answer = cluster.client.http.post("/jobs", json=cluster.brief(seed=1))
    ready = cluster.client.http.get("/readyz")
    shown = cluster.client.job(answer.json()["id"])
    cluster.redis.start()

    assert before == "succeeded"
    assert answer.status_code == 202
    assert (ready.status_code, ready.json()["checks"]["broker"]) == (503, "The broker does not answer.")
    assert ready.json()["checks"]["database"] == "ok"
    assert shown["status"] == "queued"
    assert cluster.client.wait(answer.json()["id"])["status"] == "succeeded"
    until(lambda: cluster.client.http.get("/readyz").status_code == httpx.codes.OK, "the service to be ready again")


def test_messages_that_come_twice_or_make_no_sense_change_nothing(cluster: Cluster, tmp_path: Path) -> None:
    cluster.have_workers(2)
    mark = tmp_path / "executed"
    celery = make_celery(cluster.installation.loaded())
    ahead = [cluster.measuring(), cluster.measuring()]  # both workers are busy: what follows waits in the queue
    job = cluster.client.submit(cluster.brief())
    for argument in [uuid(job).hex] * 5 + [new_id().hex, "no id", "", {"a": 1}, None]:
        celery.send_task(TASK, args=[argument], queue="cpu")
    celery.send_task(TASK, args=[], queue="cpu")
    celery.send_task("os.system", args=[f"touch {mark}"], queue="cpu")
    with celery.connection_for_write() as connection:
        producer = kombu.Producer(connection)
        headers = {"task": TASK, "id": new_id().hex, "lang": "py"}
        body = pickle.dumps(([Executed(mark)], {}, {}))
        for sort in ("application/x-python-serialize", "application/json"):
            producer.publish(body, routing_key="cpu", content_type=sort, content_encoding="binary", headers=headers)
    for one in ahead:
        cluster.client.cancel(one)

    assert cluster.client.wait(job)["status"] == "succeeded"
    until(lambda: cluster.waiting_messages() == 0, "the queue to be empty")
    assert cluster.client.wait(cluster.client.submit(cluster.brief(seed=1)))["status"] == "succeeded"
    assert cluster.client.states(job) == ["queued", "running", "succeeded"]
    assert (cluster.row(job).attempt, cluster.row(job).lost) == (1, 0)
    assert not mark.exists()
    assert all(worker.is_running for worker in cluster.workers)


def test_a_worker_that_finds_no_message_in_the_queue_ends_as_failed_and_the_next_one_works(cluster: Cluster) -> None:
    cluster.have_workers(1)
    (worker,) = cluster.workers
    with redis_client.Redis.from_url(cluster.redis.url) as client:
        client.lpush("cpu", b"\xff no message at all")

    assert worker.await_end() != 0  # so that it is started again
    cluster.have_workers(1)
    assert cluster.client.wait(cluster.client.submit(cluster.brief()))["status"] == "succeeded"


class Executed:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self._mark,)


def test_a_job_is_sent_at_once_when_the_broker_is_back(tmp_path: Path, redis) -> None:
    """Not only when its message counts as lost: a connection that broke while sending is noticed."""
    settings = Settings(data_dir=tmp_path, broker_url=redis.url, republish_s=3600)
    migrate_sqlite(settings.database)
    parts = Components.build(settings)
    dispatcher = Dispatcher(parts.database, parts.publisher, settings)
    model = _model(parts, tmp_path)
    parts.jobs.submit("t", JobSpec(model=model), key=None)
    dispatcher.run_once()
    redis.stop()
    late = [parts.jobs.submit("t", JobSpec(model=model, seed=seed), key=None).id for seed in (1, 2)]
    with pytest.raises(QueueUnavailable):
        dispatcher.run_once()
    redis.start()
    dispatcher.run_once()

    with redis_client.Redis.from_url(redis.url) as client:
        assert client.llen("cpu") == len(late)  # the first one's message went down with the broker
    with parts.database.read() as session:
        assert jobs.publishable(session, republish_s=3600) == []
    parts.database.close()


def _model(parts: Components, folder: Path) -> str:
    import hashlib

    from app.services.library import Arrival

    content = onnx_classifier()
    (folder / "file").write_bytes(content)
    arrival = Arrival(folder / "file", len(content), hashlib.sha256(content).hexdigest(), "tiny", {})
    return f"mdl_{parts.library.add_model('t', arrival).id.hex}"
