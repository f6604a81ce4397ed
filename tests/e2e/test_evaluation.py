"""`POST /jobs` with `artifacts`: what was delivered earlier, evaluated as it is, on devices too."""

from typing import Any

import pytest

from app.spec.report import Report
from tests.support.installation.client import Client
from tests.support.installation.jobs import BRIEF, recipe

LOCAL = {"type": "local"}


@pytest.fixture(scope="module")
def delivered(client: Client, tiny_model: str, tiny_data: str) -> list[dict[str, Any]]:
    """The artifacts of a job with two targets."""
    targets = [{"format": "onnx", "profile": "x86"}, {"format": "onnx", "profile": "arm"}]
    job = client.submit(recipe(tiny_model, tiny_data, targets=targets, name="edge <b>12</b>"))
    assert client.wait(job)["status"] == "succeeded"
    return client.artifacts(job)


def evaluation(model: str, data: str, *artifacts: str, **changes: object) -> dict[str, Any]:
    evaluate = {"metrics": ["top1"], "latency": BRIEF, "devices": [LOCAL]}
    return {"model": model, "data": {"test": data}, "artifacts": list(artifacts), "evaluate": evaluate} | changes


def models(delivered: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in delivered if one["kind"] == "model"]


def test_delivered_artifacts_are_evaluated_as_they_are(
    client: Client, tiny_model: str, tiny_data: str, delivered: list[dict[str, Any]]
) -> None:
    x86, arm = models(delivered)

    job = client.submit(evaluation(tiny_model, tiny_data, arm["id"], x86["id"]))

    assert client.wait(job)["status"] == "succeeded"
    assert client.artifacts(job) == [], "nothing is made"
    report = Report.model_validate(client.get(f"/jobs/{job}/report"))
    assert [target.target.label for target in report.targets] == ["onnx/arm", "onnx/x86"]
    assert [target.sha256 for target in report.targets] == [arm["sha256"], x86["sha256"]]
    assert report.steps == ()
    for target in report.targets:
        assert target.origin is not None
        assert target.origin.job_name == "edge <b>12</b>"
        assert target.metrics[0].rows > 0
        (cell,) = target.devices
        assert cell.size_bytes == target.size.after_bytes
    html = client.http.get(f"/jobs/{job}/report", headers={"Accept": "text/html"}).text
    assert "ONNX for arm, of edge &lt;b&gt;12&lt;/b&gt;" in html
    assert "artifacts of earlier jobs were evaluated as they are" in html
    assert 'id="devices"' in html


def test_the_figures_are_those_of_the_job_that_delivered(
    client: Client, tiny_model: str, tiny_data: str, delivered: list[dict[str, Any]]
) -> None:
    x86 = models(delivered)[0]
    spec = evaluation(tiny_model, tiny_data, x86["id"])
    assert client.http.post("/jobs/validate", json=spec).json()["compatibility"] == [], "it is delivered already"
    job = client.submit(spec)
    client.wait(job)

    (again,) = Report.model_validate(client.get(f"/jobs/{job}/report")).targets
    origin = again.origin
    assert origin is not None
    first = Report.model_validate(client.get(f"/jobs/{origin.job}/report")).targets[0]
    assert again.parity == first.parity
    assert again.metrics == first.metrics
    assert again.size == first.size
    assert again.placement == first.placement


def test_a_retry_evaluates_the_same_artifacts(
    client: Client, tiny_model: str, tiny_data: str, delivered: list[dict[str, Any]]
) -> None:
    limits = {"metrics": ["top1"], "latency": BRIEF, "limits": {"min_sqnr_db": 200}}
    job = client.submit(evaluation(tiny_model, tiny_data, models(delivered)[0]["id"], evaluate=limits))
    assert client.wait(job)["error"]["code"] == "limits.missed"

    client.http.post(f"/jobs/{job}/retry")

    assert client.wait(job)["error"]["code"] == "limits.missed"


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"steps": [{"type": "quantize.dynamic"}]}, "request.invalid", "/artifacts"),
        ({"targets": [{"format": "onnx", "profile": "arm"}]}, "artifact.unfit", "/targets"),
    ],
)
def test_what_artifacts_cannot_be_named_with(
    changes: dict[str, object],
    code: str,
    pointer: str,
    client: Client,
    tiny_model: str,
    tiny_data: str,
    delivered: list[dict[str, Any]],
) -> None:
    answer = client.http.post("/jobs", json=evaluation(tiny_model, tiny_data, models(delivered)[0]["id"], **changes))

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_artifacts_that_do_not_fit_are_refused(
    client: Client, heavy_model: str, tiny_model: str, tiny_data: str, delivered: list[dict[str, Any]]
) -> None:
    model, usage = models(delivered)[0]["id"], next(one["id"] for one in delivered if one["kind"] == "data")

    def refused(*artifacts: str, of: str = tiny_model) -> tuple[int, str, str]:
        answer = client.http.post("/jobs", json=evaluation(of, tiny_data, *artifacts))
        return answer.status_code, answer.json()["code"], answer.json()["errors"][0]["pointer"]

    assert refused("art_" + "0" * 32) == (404, "resource.not_found", "/artifacts/0")
    assert refused(model, usage) == (422, "artifact.unfit", "/artifacts/1")
    assert refused(model, of=heavy_model) == (422, "artifact.unfit", "/artifacts/0")
    assert refused(model, model) == (422, "request.invalid", "/artifacts")
