"""The agent as a process of its own, against a real service: enrolled, at work, killed, stopped, lied to."""

import signal
import time
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
import pytest
from sqlalchemy import update

from app.api.components import Components
from app.db import agent_tasks, jobs
from app.db.tables import AgentTask, AgentTaskFile
from app.ids import new_id, parse, public
from app.settings import Settings
from tests.support.agent.device import Device, enrolled, running
from tests.support.agent.measured import ORDER
from tests.support.agent.tasks import BATCHES, files, heavy_files, sha256
from tests.support.api import base_url, client, components, model_id
from tests.support.installation.waiting import until

__all__ = ["base_url", "client", "components", "model_id"]

LASTING = ORDER | {"timing": ORDER["timing"] | {"runs": 10_000, "budget_s": 300.0}, "deadline_s": 600.0}
"""Takes minutes with `heavy_files`."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", port=0, lease_s=3, heartbeat_s=1, sweep_s=0.5, agent_wait_s=5)


@pytest.fixture
def job(client: httpx.Client, components: Components, model_id: str) -> UUID:
    job = parse("job", client.post("/jobs", json={"model": model_id}).json()["id"])
    with components.database.write() as session:
        assert jobs.claim(session, job, worker="w", queue="cpu", lease_s=600)
    return job


@pytest.fixture
def device(client: httpx.Client, tmp_path: Path) -> tuple[Device, str]:
    return enrolled(client, tmp_path / "pi")


def ask(components: Components, job: UUID, agent: str, folder: Path, order: dict = ORDER, **changed: bytes) -> UUID:
    """Put a task in the database as a worker does; its id."""
    new = new_id()
    row = AgentTask(id=new, tenant="default", agent_id=parse("agt", agent), job_id=job, job_attempt=1, payload=order)
    rows = []
    for role, content in (heavy_files() if order is LASTING else files()).items():
        stored, key = changed.get(role, content), f"agent-files/{job.hex}/1/{new_id().hex}"
        path = folder / "content"
        path.write_bytes(stored)
        components.store.put(key, path, sha256=sha256(stored), media_type="application/octet-stream")
        rows.append(AgentTaskFile(task_id=new, role=role, sha256=sha256(content), bytes=len(content), key=key))
    with components.database.write() as session:
        session.add(row)
        session.flush()
        session.add_all(rows)
    return new


def shown(components: Components, task: UUID) -> AgentTask:
    with components.database.read() as session:
        row = agent_tasks.get(session, task)
        assert row is not None
        return row


def await_state(components: Components, task: UUID, *states: str) -> AgentTask:
    until(lambda: shown(components, task).state in states, f"the task to be {states}", 60)
    return shown(components, task)


def test_a_token_used_twice_is_refused(client: httpx.Client, tmp_path: Path) -> None:
    token = client.post("/agents/tokens", json={}).json()["token"]
    first, second = (Device(tmp_path / name, str(client.base_url)).enrol(token) for name in ("a", "b"))

    assert first.returncode == 0
    assert (tmp_path / "a/state/agent.json").stat().st_mode & 0o777 == 0o600
    assert second.returncode == 1
    assert "was used before" in second.stderr
    assert not (tmp_path / "b/state/agent.json").exists()


def test_a_task_is_done_and_its_outputs_come_back(
    components: Components, job: UUID, device: tuple[Device, str], tmp_path: Path
) -> None:
    task = ask(components, job, device[1], tmp_path)
    with running(device[0]):
        row = await_state(components, task, "done", "failed")
        assert device[0].end(signal.SIGTERM) == 0

    assert row.state == "done", row.error
    assert row.result is not None
    assert row.result["facts"]["runtimes"]["onnxruntime"] in row.result["runtime"]
    assert len(row.result["after_ns"]) == 20
    with components.database.read() as session:
        (sent,) = [file for file in agent_tasks.files(session, task) if file.role == "outputs"]
    components.store.fetch(sent.key, tmp_path / "outputs", sha256=row.result["outputs_sha256"])
    with np.load(tmp_path / "outputs") as outputs:
        assert len(outputs.files) == BATCHES
    assert list((device[0].state / "work").iterdir()) == []


def test_a_killed_agent_loses_its_task_and_the_restarted_one_finishes_it(
    components: Components, job: UUID, device: tuple[Device, str], tmp_path: Path
) -> None:
    pi, agent = device
    task = ask(components, job, agent, tmp_path, LASTING)
    with running(pi):
        until(lambda: list(pi.state.glob("work/*/request.json")), "the measurement to begin", 30)
        pi.end(signal.SIGKILL)
    row = await_state(components, task, "queued")
    assert (row.attempt, row.lost) == (1, 1)
    with components.database.write() as session:
        session.execute(update(AgentTask).values(payload=ORDER))  # this time, a moment is enough
    with running(pi):
        row = await_state(components, task, "done", "failed")

    assert (row.state, row.attempt) == ("done", 2), row.error


def test_an_agent_that_is_told_to_stop_hands_its_task_back(
    components: Components, job: UUID, device: tuple[Device, str], tmp_path: Path
) -> None:
    pi, agent = device
    task = ask(components, job, agent, tmp_path, LASTING)
    with running(pi):
        until(lambda: list(pi.state.glob("work/*/request.json")), "the measurement to begin", 30)
        assert pi.end(signal.SIGTERM) == 0
    row = shown(components, task)

    assert (row.state, row.attempt, row.lost) == ("queued", 1, 0)


def test_an_idle_agent_stops_at_once(device: tuple[Device, str], client: httpx.Client) -> None:
    pi, agent = device
    before = client.get(f"/agents/{agent}").json()["seen_at"]
    with running(pi):
        until(lambda: client.get(f"/agents/{agent}").json()["seen_at"] != before, "the first poll")
        started = time.monotonic()
        assert pi.end(signal.SIGTERM) == 0

    assert time.monotonic() - started < 5


@pytest.mark.parametrize("role", ["artifact", "rows"])
def test_a_file_that_is_not_what_was_announced_is_refused(
    components: Components, job: UUID, device: tuple[Device, str], tmp_path: Path, role: str
) -> None:
    right = files()[role]
    task = ask(components, job, device[1], tmp_path, **{role: right[:-1] + bytes([right[-1] ^ 1])})
    with running(device[0]):
        row = await_state(components, task, "done", "failed")

    assert row.error is not None
    assert (row.state, row.error["code"]) == ("failed", "agent.file_refused")


def test_a_second_agent_gets_nothing_of_the_first_ones(
    client: httpx.Client, components: Components, job: UUID, device: tuple[Device, str], tmp_path: Path
) -> None:
    other, name = enrolled(client, tmp_path / "other")
    task = ask(components, job, device[1], tmp_path)
    before = client.get(f"/agents/{name}").json()["seen_at"]
    with running(other):
        until(lambda: client.get(f"/agents/{name}").json()["seen_at"] != before, "the other agent to poll")
        time.sleep(2)
        assert shown(components, task).state == "queued"
        with running(device[0]):
            assert await_state(components, task, "done", "failed").state == "done"


def test_a_canceled_job_ends_the_measurement(
    client: httpx.Client, components: Components, job: UUID, device: tuple[Device, str], tmp_path: Path
) -> None:
    pi, agent = device
    task = ask(components, job, agent, tmp_path, LASTING)
    with running(pi):
        until(lambda: list(pi.state.glob("work/*/request.json")), "the measurement to begin", 30)
        client.post(f"/jobs/{public('job', job)}/cancel")
        until(lambda: "given up" in pi.said(), "the agent to give up", 30)
        assert list(pi.state.glob("work/*")) == []

    assert await_state(components, task, "dropped").result is None


def test_a_revoked_agent_says_so_and_ends(client: httpx.Client, device: tuple[Device, str]) -> None:
    client.delete(f"/agents/{device[1]}")
    device[0].start()
    assert device[0].process is not None

    assert device[0].process.wait(20) == 1
    assert "agent.unauthorized" in device[0].said()
