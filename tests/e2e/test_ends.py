"""The ways a job can end besides success, and what may be done around it."""

from collections.abc import Iterator

import httpx
import pytest

from app.spec.report import Report
from tests.support.installation.client import Client, accepted
from tests.support.installation.jobs import LASTING, recipe

SOON = 20


@pytest.fixture
def lasting(client: Client, heavy_model: str, tiny_data: str) -> Iterator[str]:
    """A job that is being measured for minutes; canceled at the end."""
    job = client.submit(recipe(heavy_model, tiny_data, latency=LASTING))
    client.wait_for_stage(job, "measuring")
    yield job
    client.http.post(f"/jobs/{job}/cancel")
    client.wait(job, SOON)


def test_a_running_job_is_canceled_and_tried_again(client: Client, lasting: str) -> None:
    client.cancel(lasting)
    assert client.wait(lasting, SOON)["status"] == "canceled"
    assert client.artifacts(lasting) == []
    ended = client.http.post(f"/jobs/{lasting}/cancel")
    assert (ended.status_code, ended.json()["code"]) == (409, "job.ended")

    accepted(client.http.post(f"/jobs/{lasting}/retry"))
    again = client.wait_for_stage(lasting, "measuring", attempt=2)
    assert again["error"] is None
    refused = client.http.post(f"/jobs/{lasting}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "job.not_ended")
    client.cancel(lasting)
    client.wait(lasting, SOON)
    assert client.states(lasting) == ["queued", "running", "canceling", "canceled"] * 2


def test_what_a_job_reads_cannot_be_deleted_under_it(client: Client, heavy_model: str, tiny_data: str) -> None:
    data = client.upload_dataset(httpx.get(f"{client.url}/datasets/{tiny_data}/content", follow_redirects=True).content)
    job = client.submit(recipe(heavy_model, data, latency=LASTING))
    client.wait_for_stage(job, "measuring")
    refused = client.http.delete(f"/datasets/{data}")
    client.cancel(job)
    client.wait(job, SOON)
    deleted = client.http.delete(f"/datasets/{data}")
    retried = client.http.post(f"/jobs/{job}/retry")

    assert (refused.status_code, refused.json()["code"]) == (409, "resource.in_use")
    assert deleted.status_code == 204
    assert client.http.get(f"/datasets/{data}").status_code == 404
    assert (retried.status_code, retried.json()["errors"][0]["pointer"]) == (404, "/data/calibration")
    assert client.job(job)["status"] == "canceled"


def test_a_missed_limit_keeps_what_was_made(client: Client, tiny_model: str, tiny_data: str) -> None:
    evaluate = {"limits": {"min_sqnr_db": 200}, "latency": {"runs": 20, "budget_s": 0.2}}
    job = client.submit(recipe(tiny_model, tiny_data, evaluate=evaluate))
    ended = client.wait(job)

    assert (ended["status"], ended["error"]["code"]) == ("failed", "limits.missed")
    assert "200" in ended["error"]["detail"]
    artifact, _ = client.artifacts(job)
    assert len(client.download(artifact["id"])) == artifact["bytes"]
    report = Report.model_validate_json(client.http.get(f"/jobs/{job}/report").content)
    assert report.targets[0].missed_limits


def test_a_job_that_takes_too_long_is_ended(client: Client, heavy_model: str, tiny_model: str, tiny_data: str) -> None:
    job = client.submit(recipe(heavy_model, tiny_data, latency=LASTING, timeout_s=4))
    ended = client.wait(job)

    assert (ended["status"], ended["error"]["code"]) == ("failed", "worker.timeout")
    assert ended["attempt"] == 1  # trying again would take as long
    assert client.http.get(f"/jobs/{job}/report").json()["code"] == "job.not_ended"
    assert client.wait(client.submit(recipe(tiny_model, tiny_data)))["status"] == "succeeded"


def test_a_repeated_request_is_the_same_job(client: Client, tiny_model: str, tiny_data: str) -> None:
    spec = recipe(tiny_model, tiny_data)
    first, second = client.submit(spec, key="build-12"), client.submit(spec, key="build-12")
    other = client.http.post("/jobs", json=spec | {"seed": 7}, headers={"Idempotency-Key": "build-12"})
    client.wait(first)
    late = client.submit(spec, key="build-12")

    assert first == second == late
    assert (other.status_code, other.json()["code"]) == (422, "idempotency.mismatch")
    assert client.states(first) == ["queued", "running", "succeeded"]


def test_a_job_for_a_queue_without_worker_says_so(client: Client, tiny_model: str, tiny_data: str) -> None:
    job = client.submit(recipe(tiny_model, tiny_data, device="cuda"))
    shown = client.job(job)
    canceled = client.cancel(job)

    assert (shown["status"], shown["queue"]) == ("queued", "cuda")
    assert shown["stage"] == "waiting: no live worker serves the queue 'cuda'"
    assert canceled["status"] == "canceled"
