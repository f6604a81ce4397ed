"""Agents over HTTP: enrolled once, known by a credential, each with its own work alone."""

import hashlib
import json
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import update

from app.api.components import Components
from app.db import agent_tasks, jobs
from app.db.tables import AgentTask, AgentTaskFile, EnrolmentToken
from app.db.types import from_now
from app.ids import new_id, parse, public
from tests.support.agent.measured import FACTS, MEASUREMENT, ORDER, OUTPUTS
from tests.support.api import OCTETS

CONTENT = b"a model" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def enrolled(client: httpx.Client, name: str = "pi") -> dict:
    token = client.post("/agents/tokens", json={"name": name, "labels": {"room": "lab"}}).json()["token"]
    answer = client.post("/agents/enrol", json={"token": token, "facts": FACTS})
    assert answer.status_code == 201, answer.text
    return answer.json()


def as_agent(agent: dict) -> dict[str, str]:
    return {"Authorization": f"Bearer {agent['credential']}"}


def polled(client: httpx.Client, agent: dict) -> httpx.Response:
    return client.post("/agents/self/poll", json={"facts": FACTS, "wait_s": 0}, headers=as_agent(agent))


@pytest.fixture
def agent(client: httpx.Client) -> dict:
    return enrolled(client)


@pytest.fixture
def job(client: httpx.Client, components: Components, model_id: str) -> UUID:
    """A job whose first attempt is at work."""
    job = parse("job", client.post("/jobs", json={"model": model_id}).json()["id"])
    with components.database.write() as session:
        assert jobs.claim(session, job, worker="w", queue="cpu", lease_s=60)
    return job


@pytest.fixture
def task(components: Components, job: UUID, agent: dict, tmp_path: Path) -> str:
    new, key, file = new_id(), f"agent-files/{job.hex}/1/{SHA256}", tmp_path / "artifact"
    file.write_bytes(CONTENT)
    components.store.put(key, file, sha256=SHA256, media_type="application/octet-stream")
    row = AgentTask(
        id=new, tenant="default", agent_id=parse("agt", agent["id"]), job_id=job, job_attempt=1, payload=ORDER
    )
    with components.database.write() as session:
        session.add(row)
        session.flush()
        session.add(AgentTaskFile(task_id=new, role="artifact", sha256=SHA256, bytes=len(CONTENT), key=key))
    return public("tsk", new)


def told(client: httpx.Client, agent: dict, task: str, what: str, **body: object) -> httpx.Response:
    return client.post(f"/agents/self/tasks/{task}/{what}", json=body, headers=as_agent(agent))


def sent(client: httpx.Client, agent: dict, task: str, attempt: int = 1) -> httpx.Response:
    path = f"/agents/self/tasks/{task}/outputs"
    return client.put(path, params={"attempt": attempt}, content=OUTPUTS, headers=as_agent(agent) | OCTETS)


def test_a_token_enrols_one_agent(client: httpx.Client) -> None:
    made = client.post("/agents/tokens", json={"name": "pi", "labels": {"room": "lab"}})
    body = {"token": made.json()["token"], "facts": FACTS}
    first, second = client.post("/agents/enrol", json=body), client.post("/agents/enrol", json=body)

    assert (made.status_code, first.status_code) == (201, 201)
    assert made.headers["Cache-Control"] == first.headers["Cache-Control"] == "no-store"
    assert (second.status_code, second.json()["code"]) == (403, "agent.token_refused")
    assert "used before" in second.json()["detail"]
    (listed,) = client.get("/agents", params={"label": "room:lab"}).json()["data"]
    assert listed == client.get(f"/agents/{listed['id']}").json()
    assert (listed["id"], listed["name"], listed["facts"]) == (first.json()["id"], "pi", FACTS)
    assert "credential" not in listed


def test_unknown_and_expired_tokens_are_refused(client: httpx.Client, components: Components) -> None:
    unknown = client.post("/agents/enrol", json={"token": "pare-enrol-guess", "facts": FACTS})
    short = client.post("/agents/tokens", json={"ttl_s": 1}).json()["token"]
    with components.database.write() as session:
        session.execute(update(EnrolmentToken).values(expires_at=from_now(-1)))
    expired = client.post("/agents/enrol", json={"token": short, "facts": FACTS})

    assert (unknown.status_code, unknown.json()["code"]) == (403, "agent.token_refused")
    assert (expired.status_code, "expired" in expired.json()["detail"]) == (403, True)
    assert client.get("/agents").json()["data"] == []


def test_secrets_are_kept_as_digests_alone(client: httpx.Client, components: Components) -> None:
    agent = enrolled(client)
    dump = b"".join(path.read_bytes() for path in components.settings.data_dir.glob("pare.db*"))

    assert hashlib.sha256(agent["credential"].encode()).hexdigest().encode() in dump
    assert agent["credential"].encode() not in dump
    assert b"pare-enrol-" not in dump


@pytest.mark.parametrize("header", [None, "Bearer guess", "Bearer " + "x" * 5000, "Basic Z3Vlc3M6", "Bearer"])
def test_nobody_polls_without_a_credential(client: httpx.Client, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = client.post("/agents/self/poll", json={"facts": FACTS, "wait_s": 0}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "agent.unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_task_is_taken_renewed_and_reported_once(
    client: httpx.Client, components: Components, agent: dict, task: str
) -> None:
    taken = polled(client, agent)
    assert taken.status_code == 200, taken.text
    shown = taken.json()
    assert (shown["id"], shown["attempt"], shown["order"]) == (task, 1, ORDER)
    assert shown["files"] == [{"role": "artifact", "sha256": SHA256, "bytes": len(CONTENT)}]
    assert shown["heartbeat_s"] * 2 <= shown["lease_s"]
    assert polled(client, agent).status_code == 204
    assert told(client, agent, task, "heartbeat", attempt=1).status_code == 204
    unsent = told(client, agent, task, "result", attempt=1, measurement=MEASUREMENT)
    assert (unsent.status_code, unsent.json()["code"]) == (422, "agent.outputs_missing")
    assert sent(client, agent, task).status_code == 204
    assert sent(client, agent, task).status_code == 204
    assert len(list(components.store.list("agent-outputs/"))) == 1
    assert told(client, agent, task, "result", attempt=1, measurement=MEASUREMENT).status_code == 204
    again = told(client, agent, task, "result", attempt=1, measurement=MEASUREMENT)
    assert (again.status_code, again.json()["code"]) == (409, "agent.task_gone")
    with components.database.read() as session:
        row = agent_tasks.get(session, parse("tsk", task))
        assert row is not None
        assert (row.state, row.result) == ("done", MEASUREMENT)


def test_an_attempt_that_was_given_up_on_is_fenced(
    client: httpx.Client, components: Components, agent: dict, task: str
) -> None:
    polled(client, agent)
    assert told(client, agent, task, "hand-back", attempt=1).status_code == 204
    assert polled(client, agent).json()["attempt"] == 2
    late = [
        told(client, agent, task, "heartbeat", attempt=1),
        told(client, agent, task, "hand-back", attempt=1),
        told(client, agent, task, "result", attempt=1, failure={"code": "agent.failed", "detail": ""}),
        sent(client, agent, task, attempt=1),
    ]

    assert [answer.status_code for answer in late] == [409, 409, 409, 409]
    assert list(components.store.list("agent-outputs/")) == []
    assert told(client, agent, task, "heartbeat", attempt=2).status_code == 204


def test_the_reason_of_a_failure_gets_a_remedy(
    client: httpx.Client, components: Components, agent: dict, task: str
) -> None:
    polled(client, agent)
    reason = {"code": "agent.failed", "detail": "ONNX Runtime: no such operator."}
    assert told(client, agent, task, "result", attempt=1, failure=reason).status_code == 204

    with components.database.read() as session:
        row = agent_tasks.get(session, parse("tsk", task))
        assert row is not None
        assert row.error is not None
        assert row.error.items() >= reason.items()
        assert row.error["remedy"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"measurement": MEASUREMENT, "failure": {"code": "agent.failed", "detail": ""}},
        {"failure": {"code": "worker.lost", "detail": ""}},
        {"measurement": MEASUREMENT | {"load_ms": float("1e999")}},
        {"measurement": MEASUREMENT | {"before_ns": []}},
        {"measurement": MEASUREMENT | {"html": "<script>"}},
    ],
)
def test_a_result_is_typed(client: httpx.Client, agent: dict, task: str, body: dict) -> None:
    polled(client, agent)
    headers = as_agent(agent) | {"Content-Type": "application/json"}
    text = json.dumps({"attempt": 1} | body)
    answer = client.post(f"/agents/self/tasks/{task}/result", content=text, headers=headers)

    assert answer.status_code == 422
    assert told(client, agent, task, "heartbeat", attempt=1).status_code == 204


def test_a_result_is_small(client: httpx.Client, agent: dict, task: str) -> None:
    polled(client, agent)
    answer = told(client, agent, task, "result", attempt=1, measurement=MEASUREMENT | {"notes": ["x" * (2 << 20)]})

    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")


def test_an_agent_sees_its_own_tasks_alone(client: httpx.Client, agent: dict, task: str) -> None:
    other = enrolled(client, "other")
    path = f"/agents/self/tasks/{task}/files/{SHA256}"
    assert polled(client, other).status_code == 204
    assert client.get(path, headers=as_agent(agent)).status_code == 404  # not leased yet
    polled(client, agent)

    assert client.get(path, headers=as_agent(agent)).content == CONTENT
    part = client.get(path, headers=as_agent(agent) | {"Range": "bytes=7-13"})
    assert (part.status_code, part.content) == (206, b"a model")
    assert client.get(path).status_code == 401
    assert client.get(path, headers=as_agent(other)).status_code == 404
    refused = {"failure": {"code": "agent.failed", "detail": ""}}
    assert sent(client, other, task).status_code == 409
    for what, more in (("heartbeat", {}), ("hand-back", {}), ("result", refused)):
        assert told(client, other, task, what, attempt=1, **more).status_code == 409


def test_a_revoked_agent_is_out_at_once(client: httpx.Client, components: Components, agent: dict, task: str) -> None:
    polled(client, agent)
    assert client.delete(f"/agents/{agent['id']}").status_code == 204

    assert polled(client, agent).status_code == 401
    assert client.get(f"/agents/{agent['id']}").status_code == 404
    assert client.delete(f"/agents/{agent['id']}").status_code == 404
    with components.database.read() as session:
        row = agent_tasks.get(session, parse("tsk", task))
        assert row is not None
        assert row.error is not None
        assert row.error["code"] == "agent.revoked"


def test_the_sweep_takes_tasks_from_silent_agents(
    client: httpx.Client, components: Components, agent: dict, task: str
) -> None:
    for attempt in range(1, agent_tasks.MAX_LOST + 1):
        assert polled(client, agent).json()["attempt"] == attempt
        with components.database.write() as session:
            session.execute(update(AgentTask).values(lease_until=from_now(-1)))
        with components.database.write() as session:
            components.sweeper._recover(session)

    with components.database.read() as session:
        row = agent_tasks.get(session, parse("tsk", task))
        assert row is not None
        assert row.error is not None
        assert (row.state, row.error["code"]) == ("failed", "agent.lost")
    assert polled(client, agent).status_code == 204


def test_agents_are_counted(client: httpx.Client, agent: dict, task: str) -> None:
    text = client.get("/metrics").text

    assert 'pare_agents{state="enrolled"} 1.0' in text
    assert 'pare_agents{state="seen"} 1.0' in text
    assert 'pare_agent_tasks{state="queued"} 1.0' in text
    polled(client, agent)
    assert 'pare_agent_tasks{state="leased"} 1.0' in client.get("/metrics").text


def job_on(model_id: str, agent: str, *formats: str) -> dict:
    targets = [{"format": one} for one in formats or ("onnx",)]
    return {"model": model_id, "targets": targets, "evaluate": {"devices": [{"type": "agent", "agent": agent}]}}


def test_a_job_names_agents_that_there_are(client: httpx.Client, agent: dict, model_id: str) -> None:
    unknown = client.post("/jobs", json=job_on(model_id, "agt_" + "0" * 32))
    known = client.post("/jobs", json=job_on(model_id, agent["id"]))
    client.delete(f"/agents/{agent['id']}")
    revoked = client.post("/jobs", json=job_on(model_id, agent["id"]))

    for refused in (unknown, revoked):
        assert (refused.status_code, refused.json()["code"]) == (404, "resource.not_found")
        assert refused.json()["errors"][0]["pointer"] == "/evaluate/devices/0"
    assert known.status_code == 202


def test_a_job_names_agents_that_can_run_something_of_it(client: httpx.Client, agent: dict, model_id: str) -> None:
    refused = client.post("/jobs", json=job_on(model_id, agent["id"], "openvino"))
    partly = client.post("/jobs/validate", json=job_on(model_id, agent["id"], "onnx", "openvino"))

    assert (refused.status_code, refused.json()["code"]) == (422, "agent.unfit")
    assert "its runtimes: onnxruntime" in refused.json()["detail"]
    assert partly.status_code == 200
    assert any("has no runtime for openvino/fp32" in warning for warning in partly.json()["warnings"])
