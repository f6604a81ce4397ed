"""What was stored when states were sentences ("converted, not executed") is read as the identifiers of today."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app.api.components import Components
from app.db import jobs, workers
from app.db.tables import Job
from app.ids import parse
from app.spec.compatibility import OWN
from app.spec.report import TargetReport
from app.spec.targets import OnnxTarget
from tests.support.files import onnx_classifier

STORED = Path(__file__).parent / "stored"
"""Rows as they were written then."""
QUANTIZE = {"type": "quantize.static"}


def stored(name: str) -> dict[str, Any]:
    return json.loads((STORED / f"{name}.json").read_text())


def succeed(components: Components, job: UUID, report: dict[str, Any]) -> None:
    with components.database.write() as session:
        assert jobs.claim(session, job, worker="w", queue="cpu", lease_s=60)
        assert jobs.succeed(session, job, 1, report=report, artifacts=[])


@pytest.fixture
def job(client: httpx.Client, components: Components, model_id: str, dataset_id: str) -> str:
    spec = {"name": "stored", "model": model_id, "data": {"calibration": dataset_id}, "steps": [QUANTIZE]}
    public_id = client.post("/jobs", json=spec).json()["id"]
    succeed(components, parse("job", public_id), stored("report"))
    return str(public_id)


def test_a_stored_report_is_served_with_identifiers(client: httpx.Client, job: str) -> None:
    report = client.get(f"/jobs/{job}/report").json()

    assert [target["status"] for target in report["targets"]] == ["executed", "converted", "planned"]
    assert report["targets"][0]["devices"][0]["estimate"]["family"] == "convolutional_int8"


@pytest.mark.parametrize("media_type", ["text/html", "text/markdown"])
def test_a_stored_report_is_rendered_in_words(client: httpx.Client, job: str, media_type: str) -> None:
    page = client.get(f"/jobs/{job}/report", headers={"Accept": media_type}).text

    assert "converted, not executed: its own runtime is on no worker" in page
    assert "planned, not built: the target" in page


def test_a_stored_compatibility_is_served_with_identifiers(client: httpx.Client, components: Components) -> None:
    octets = {"Content-Type": "application/octet-stream"}
    model = client.post("/models", params={"name": "m"}, content=onnx_classifier(), headers=octets).json()["id"]
    path = f"/models/{model}/compatibility?target=onnx/x86"
    assert client.get(path).status_code == 202
    with components.database.write() as session:
        workers.seen(session, "w", queue="cpu", facts={"knowledge": {OWN: "k1"}})
        look = session.scalars(select(Job.id).where(Job.kind == "compatibility")).one()
    succeed(components, look, every_variant(stored("compatibility")))

    (ready,) = client.get(path).json()["data"]

    assert {row["operator"]: row["status"] for row in ready["operators"]} == {
        "Conv": "supported",
        "Erf": "not_quantizable",
        "Mish": "falls_back",
        "Mod": "unsupported",
    }


def every_variant(report: dict[str, Any]) -> dict[str, Any]:
    """The stored table for every target that one look at the format answers for."""
    [table] = report["tables"]
    targets = [target.model_dump(mode="json") for target in OnnxTarget.variants()]
    return report | {"tables": [table | {"target": target} for target in targets]}


@pytest.mark.parametrize("status", ["sentences, with commas", ["converted"], {"a": 1}, 3])
def test_what_was_never_a_state_is_refused(status: object) -> None:
    target = stored("report")["targets"][0]

    with pytest.raises(ValueError, match="status"):
        TargetReport.model_validate(target | {"status": status})
