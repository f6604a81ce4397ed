"""A job as its owner sees it: live events, polling, and everything that came out."""

import hashlib
from itertools import islice

import httpx
import onnxruntime
import pytest

from app.spec.report import Report
from tests.support.installation.client import ENDED, Client, accepted
from tests.support.installation.jobs import recipe
from tests.support.installation.serving import Stack
from tests.support.installation.waiting import until


@pytest.fixture(scope="package")
def finished(client: Client, digits_model: str, digits_data: str) -> str:
    """A digits job that succeeded."""
    job = client.submit(recipe(digits_model, digits_data, name="digits to int8", labels={"team": "edge"}))
    ended = client.wait(job)
    assert ended["status"] == "succeeded", ended["error"]
    return job


def test_progress_is_followed_live_to_the_end(client: Client, digits_model: str, digits_data: str) -> None:
    long_enough = {"batch": [64], "runs": 10_000, "budget_s": 3}
    job = client.submit(recipe(digits_model, digits_data, latency=long_enough))
    seen, status_at_first_progress = [], None
    for event in client.stream(job):
        seen.append(event)
        if status_at_first_progress is None and event.kind == "progress":
            status_at_first_progress = client.job(job)["status"]

    assert status_at_first_progress == "running"  # told while it happened, not afterwards
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert [event.data["status"] for event in seen if event.kind == "state"] == ["queued", "running", "succeeded"]
    fractions = [event.data["fraction"] for event in seen if event.kind == "progress"]
    assert fractions == sorted(fractions)
    assert len({event.data["stage"] for event in seen if event.kind == "progress"}) > 1


def test_a_broken_stream_resumes_with_exactly_the_rest(client: Client, finished: str) -> None:
    everything = client.events(finished)
    stream = client.stream(finished)
    first = list(islice(stream, 3))
    stream.close()

    rest = list(client.stream(finished, behind=first[-1].seq))

    assert len(everything) > 4
    assert first + rest == everything
    assert list(client.stream(finished, behind=everything[-1].seq)) == []


def test_polling_is_told_when_to_look_again(client: Client, tiny_model: str, tiny_data: str) -> None:
    submitted = client.http.post("/jobs", json=recipe(tiny_model, tiny_data))
    job = submitted.json()["id"]
    answers: list[httpx.Response] = [accepted(client.http.get(submitted.headers["Location"]))]

    def ended() -> bool:
        answers.append(accepted(client.http.get(f"/jobs/{job}")))
        return answers[-1].json()["status"] in ENDED

    until(ended, f"{job} to end")

    assert submitted.status_code == 202
    for answer in answers:
        assert ("Retry-After" in answer.headers) == (answer.json()["status"] not in ENDED)
    assert answers[-1].json()["status"] == "succeeded"
    assert answers[-1].json()["progress"]["fraction"] == 1


def test_the_artifact_is_smaller_and_runs(stack: Stack, finished: str, digits_model: str) -> None:
    client = stack.client
    artifact, usage = client.artifacts(finished)
    assert usage["name"] == "USAGE-onnx-x86.md"
    content = client.download(artifact["id"])

    assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
    assert len(content) == artifact["bytes"] < 0.3 * client.get(f"/models/{digits_model}")["bytes"]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["image"]


def test_an_artifact_is_downloaded_in_ranges(stack: Stack, finished: str) -> None:
    client = stack.client
    artifact, usage = client.artifacts(finished)
    assert usage["name"] == "USAGE-onnx-x86.md"
    path = f"/artifacts/{artifact['id']}/content"
    whole = client.download(artifact["id"])
    direct = client.http.get(path)

    if stack.is_real:
        assert direct.status_code == 307
        assert direct.headers["Location"].startswith(str(stack.installation.settings["s3_endpoint"]))
        # The link is enough: no cookie, no header of the service's.
        assert httpx.get(direct.headers["Location"]).content == whole
    assert direct.headers["ETag"] == f'"{artifact["sha256"]}"'
    part = client.http.get(path, headers={"Range": "bytes=10-99"}, follow_redirects=True)
    assert (part.status_code, part.content) == (206, whole[10:100])
    assert part.headers["Content-Range"] == f"bytes 10-99/{len(whole)}"
    unchanged = client.http.get(path, headers={"If-None-Match": direct.headers["ETag"]})
    assert unchanged.status_code == 304


def test_the_report_comes_in_three_forms(client: Client, finished: str) -> None:
    path = f"/jobs/{finished}/report"
    report = Report.model_validate_json(client.http.get(path).content)
    html = accepted(client.http.get(path, headers={"Accept": "text/html"}))
    markdown = accepted(client.http.get(path, headers={"Accept": "text/markdown"}))

    (target,) = report.targets
    assert report.job == finished
    assert target.sha256 == client.artifacts(finished)[0]["sha256"]
    assert target.size.ratio < 0.3
    assert target.metrics[0].drop <= 0.01
    assert target.placement.integer > target.placement.floating
    assert "default-src 'none'" in html.headers["Content-Security-Policy"]
    assert html.headers["content-type"].startswith("text/html")
    assert "digits to int8" in html.text
    assert "<script" not in html.text
    assert markdown.headers["content-type"].startswith("text/markdown")
    assert "digits to int8" in markdown.text


def test_the_log_tells_what_was_done(client: Client, finished: str) -> None:
    log = accepted(client.http.get(f"/jobs/{finished}/logs"))

    assert log.headers["content-type"].startswith("text/plain")
    lines = [line.split(" ", 2) for line in log.text.splitlines()]
    assert any("confined by" in message for _, _, message in lines)
    assert len(lines) == sum(event.kind == "log" for event in client.events(finished))


def test_the_operator_reads_what_the_worker_did(stack: Stack, finished: str) -> None:
    said = stack.installation.services[-1].said()

    assert f"{finished}: attempt 1 begins" in said
    assert f"{finished}: attempt 1 delivered" in said


def test_jobs_are_found_by_label_and_state(client: Client, finished: str) -> None:
    found = client.get("/jobs?label=team:edge&status=succeeded")["data"]

    assert [one["id"] for one in found] == [finished]
    assert client.get("/jobs?label=team:edge&status=failed")["data"] == []
