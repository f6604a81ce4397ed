"""What targets make of a model, asked over HTTP: what is kept, what is asked of a worker, what nobody can tell."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from app.api.components import Components
from app.db import jobs, workers
from app.db.tables import Job
from app.db.types import from_now
from app.spec.compatibility import OWN, Compatibilities, Compatibility, CompatibilityWanted, OperatorSupport
from app.spec.targets import TARGETS, OnnxTarget
from tests.support.files import onnx_classifier

OCTETS = {"Content-Type": "application/octet-stream"}
CONV = OperatorSupport(operator="Conv", count=2, status="supported", source="somewhere 1.0")


@pytest.fixture
def model(client: httpx.Client) -> str:
    return upload(client)


def upload(client: httpx.Client, name: str = "m") -> str:
    answer = client.post("/models", params={"name": name}, content=onnx_classifier(), headers=OCTETS)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ask(client: httpx.Client, model: str, target: str | None = "onnx") -> httpx.Response:
    return client.get(f"/models/{model}/compatibility", params={} if target is None else {"target": target})


def looks(components: Components) -> list[Job]:
    with components.database.read() as session:
        return list(session.scalars(select(Job).where(Job.kind == "compatibility").order_by(Job.id)))


def alive(components: Components, **knowledge: str) -> None:
    with components.database.write() as session:
        workers.seen(session, "w", queue="cpu", facts={"knowledge": knowledge})


def answered(components: Components, knowledge: str = "k1", error: dict[str, Any] | None = None) -> None:
    """Do what a worker would, with the newest look."""
    job = looks(components)[-1]
    targets = CompatibilityWanted.model_validate(job.spec).targets
    tables = tuple(Compatibility(target=target, operators=(CONV,), notes=(target.label,)) for target in targets)
    report = Compatibilities(tables=tables, knowledge=knowledge, seconds=1).model_dump(mode="json")
    with components.database.write() as session:
        assert jobs.claim(session, job.id, worker="w", queue="cpu", lease_s=60)
        if error is None:
            assert jobs.succeed(session, job.id, 1, report=report, artifacts=[])
        else:
            assert jobs.fail(session, job.id, 1, error=error)


def test_a_worker_is_asked_once_for_a_format(client: httpx.Client, components: Components, model: str) -> None:
    first = ask(client, model)

    assert (first.status_code, first.headers["Retry-After"]) == (202, "2")
    assert [one["label"] for one in first.json()["data"]] == [target.label for target in OnnxTarget.variants()]
    assert {one["status"] for one in first.json()["data"]} == {"pending"}
    assert ask(client, model, "onnx/arm").status_code == 202
    assert len(looks(components)) == 1
    assert client.get("/jobs").json()["data"] == [], "the service's own work is nobody's job"

    answered(components)
    (ready,) = ask(client, model, "onnx/arm").json()["data"]
    assert ask(client, model, "onnx/arm").status_code == 200
    assert (ready["status"], ready["notes"], ready["operators"]) == ("ready", ["onnx/arm"], [CONV.model_dump()])
    assert len(looks(components)) == 1


def test_without_a_target_all_are_told(client: httpx.Client, components: Components, model: str) -> None:
    answer = ask(client, model, None)

    assert answer.status_code == 202
    assert [one["label"] for one in answer.json()["data"]] == [
        target.label for kind in TARGETS for target in kind.variants()
    ]
    assert len(looks(components)) == len(TARGETS)


def test_the_same_content_is_looked_at_once(client: httpx.Client, components: Components, model: str) -> None:
    ask(client, model)
    answered(components)

    assert ask(client, upload(client, "again")).status_code == 200


def test_new_knowledge_asks_anew(client: httpx.Client, components: Components, model: str) -> None:
    alive(components, **{OWN: "k1"})
    ask(client, model)
    answered(components, "k1")
    assert ask(client, model).status_code == 200

    alive(components, **{OWN: "k2"})
    assert ask(client, model).status_code == 202
    answered(components, "k2")
    assert ask(client, model).status_code == 200
    assert len(looks(components)) == 2


def test_what_no_worker_can_tell_says_what_to_install(client: httpx.Client, components: Components, model: str) -> None:
    alive(components, **{OWN: "k1"})
    answer = ask(client, model, "openvino/fp16")

    assert answer.status_code == 200
    (target,) = answer.json()["data"]
    assert (target["status"], target["error"]["code"]) == ("unavailable", "toolchain.missing")
    assert "toolchains install openvino" in target["error"]["remedy"]
    assert looks(components) == []

    alive(components, **{OWN: "k1", "openvino": "o1"})
    assert ask(client, model, "openvino/fp16").status_code == 202


def test_a_failure_is_told_and_tried_again_later(client: httpx.Client, components: Components, model: str) -> None:
    error = {"code": "model.export_failed", "detail": "Operator x.", "remedy": "Replace it."}
    ask(client, model)
    answered(components, error=error)

    answer = ask(client, model, "onnx/x86")
    assert answer.status_code == 200
    assert answer.json()["data"][0]["status"] == "failed"
    assert answer.json()["data"][0]["error"] == error
    with components.database.write() as session:
        longer_ago = from_now(-timedelta(hours=1).total_seconds())
        session.execute(update(Job).where(Job.kind == "compatibility").values(finished_at=longer_ago))
    assert ask(client, model, "onnx/x86").status_code == 202


def test_validation_includes_it(client: httpx.Client, components: Components, model: str) -> None:
    spec = {"model": model, "targets": [{"format": "onnx", "profile": "arm"}, {"format": "openvino"}]}
    first = client.post("/jobs/validate", json=spec).json()
    assert [(one["label"], one["status"]) for one in first["compatibility"]] == [
        ("onnx/arm", "pending"),
        ("openvino/fp32", "pending"),
    ]

    answered(components)
    second = client.post("/jobs/validate", json=spec).json()["compatibility"]
    assert {one["label"]: one["status"] for one in second} == {"onnx/arm": "pending", "openvino/fp32": "ready"}


def test_unknown_targets_and_models_are_refused(client: httpx.Client, model: str) -> None:
    unknown = ask(client, model, "onnx/z80")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "target.unknown")
    assert ask(client, "mdl_" + "0" * 32).status_code == 404


def test_a_deleted_model_is_looked_at_no_more(client: httpx.Client, components: Components, model: str) -> None:
    ask(client, model)
    assert client.delete(f"/models/{model}").status_code == 204

    assert [job.state for job in looks(components)] == ["canceled"]
    assert ask(client, model).status_code == 404
