"""What a runner decides before it lets a child near a model."""

from pathlib import Path

import pytest
from sqlalchemy import update

from app.api.components import Components
from app.db import jobs
from app.db.tables import Job
from app.spec.failure import Failure
from tests.support.runtime.fixed_child import ENDED, FULL, WEAK, FixedSandbox, run_with, submitted
from tests.support.runtime.orders import result
from worker.runtime.embedded import only_one
from worker.runtime.errors import AlreadyRunning
from worker.runtime.jail.level import JailLevel


@pytest.mark.parametrize(
    ("model_format", "level", "code"),
    [
        ("pt2", WEAK, "worker.sandbox_too_weak"),
        ("onnx", WEAK, ENDED.code),
        ("pt2", FULL, ENDED.code),
    ],
)
def test_a_risky_format_needs_the_whole_jail(
    parts: Components, tmp_path: Path, model_format: str, level: JailLevel, code: str
) -> None:
    job_id = submitted(parts, tmp_path, model_format)
    run_with(parts, tmp_path, FixedSandbox(level), job_id)

    with parts.database.read() as session:
        job = jobs.of(session, "t", job_id)
    assert isinstance(job, Job)
    assert (job.state, job.error and job.error["code"]) == ("failed", code)


def test_a_second_embedded_service_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(AlreadyRunning), only_one(tmp_path):
        pytest.fail("two at once")
    with only_one(tmp_path):
        assert (tmp_path / "lock").exists()


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("worker.crashed", "queued"),
        ("worker.killed", "queued"),
        ("worker.oom", "queued"),
        ("storage.unavailable", "queued"),
        ("worker.unforeseen", "failed"),
        ("worker.timeout", "failed"),
        ("model.load_failed", "failed"),
    ],
)
def test_what_may_be_the_machines_fault_is_tried_again(
    parts: Components, tmp_path: Path, code: str, state: str
) -> None:
    job_id = submitted(parts, tmp_path, "onnx")
    bench = FixedSandbox(FULL, Failure(code=code, detail="It ended.", remedy="None."))
    run_with(parts, tmp_path, bench, job_id)

    with parts.database.read() as session:
        job = jobs.of(session, "t", job_id)
    assert isinstance(job, Job)
    assert (job.state, job.lost) == (state, 1 if state == "queued" else 0)


def test_two_attempts_never_write_the_same_key(parts: Components, tmp_path: Path) -> None:
    job_id = submitted(parts, tmp_path, "onnx")
    bench = FixedSandbox(FULL, result("model.onnx"))
    run_with(parts, tmp_path, bench, job_id)
    with parts.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(state="failed"))
        assert jobs.retry(session, job_id)
    run_with(parts, tmp_path, bench, job_id)

    keys = [stored.key for stored in parts.store.list("artifacts/")]
    assert len(set(keys)) == 2
    with parts.database.read() as session:
        job = jobs.of(session, "t", job_id)
        assert isinstance(job, Job)
        assert [artifact.key in keys for artifact in jobs.artifacts_of(session, job)] == [True]
