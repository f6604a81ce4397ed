"""What a runner decides before it lets a child near a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import update

from app.api.components import Components
from app.db import jobs
from app.db.tables import Job
from app.db.types import from_now
from app.spec.failure import Failure
from app.spec.report import TargetReport
from app.spec.work import ArtifactFile, WorkOrder, WorkResult
from tests.support.reports import target
from tests.support.runtime.fixed_child import ENDED, FULL, WEAK, FixedSandbox, run_with, submitted
from tests.support.runtime.orders import result
from worker.runtime.embedded import only_one
from worker.runtime.errors import AlreadyRunning
from worker.runtime.jail.level import JailLevel
from worker.runtime.job_sandbox import Outcome


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
    bench = FixedSandbox(FULL, lambda _: Failure(code=code, detail="It ended.", remedy="None."))
    run_with(parts, tmp_path, bench, job_id)

    with parts.database.read() as session:
        job = jobs.of(session, "t", job_id)
    assert isinstance(job, Job)
    assert (job.state, job.lost) == (state, 1 if state == "queued" else 0)


def test_two_attempts_never_write_the_same_key(parts: Components, tmp_path: Path) -> None:
    job_id = submitted(parts, tmp_path, "onnx")
    bench = FixedSandbox(FULL, lambda order: result(order, "model.onnx"))
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


def lying(**lies: Any) -> Callable[[WorkOrder], Outcome]:
    """A child that reports what it was not given, or what nobody can show."""

    def outcome(order: WorkOrder) -> WorkResult:
        honest = result(order, "model.onnx")
        return honest.model_copy(update={"report": honest.report.model_copy(update=lies)})

    return outcome


def had_no_bytes() -> TargetReport:
    delivered = target()
    return delivered.model_copy(update={"size": delivered.size.model_copy(update={"before_bytes": 0})})


@pytest.mark.parametrize(
    ("lies", "words"),
    [
        ({"job": "job_" + "1" * 32}, "another job"),
        ({"name": "somebody else's"}, "another name"),
        ({"recipe_sha256": "1" * 64}, "another recipe"),
        ({"seed": 7}, "another seed"),
        ({"targets": (had_no_bytes(),)}, "cannot be shown"),
    ],
)
def test_a_report_about_something_else_or_that_nobody_can_show_is_a_crash(
    parts: Components, tmp_path: Path, lies: dict[str, Any], words: str
) -> None:
    job_id = submitted(parts, tmp_path, "onnx")
    for _ in range(3):
        run_with(parts, tmp_path, FixedSandbox(FULL, lying(**lies)), job_id)
        with parts.database.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(run_after=from_now(-1)))

    with parts.database.read() as session:
        job = jobs.of(session, "t", job_id)
    assert isinstance(job, Job)
    assert job.error is not None
    assert (job.state, job.error["code"], job.report) == ("failed", "worker.crashed", None)
    assert words in job.error["detail"]


def test_a_result_that_the_database_does_not_take_is_heard_of(
    parts: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submitted(parts, tmp_path, "onnx")

    def refuses(*_: object, **__: object) -> bool:
        raise OverflowError("Python int too large to convert to SQLite INTEGER")

    monkeypatch.setattr(jobs, "succeed", refuses)
    run_with(parts, tmp_path, FixedSandbox(FULL, lambda order: result(order, "model.onnx")), job_id)

    with parts.database.read() as session:
        job = jobs.of(session, "t", job_id)
    assert isinstance(job, Job)
    assert (job.state, job.lost) == ("queued", 1)


@pytest.mark.parametrize("lie", [{"target": 2**70}, {"target": -1}, {"media_type": "text/plain\r\nX-Evil: 1"}])
def test_what_an_artifact_may_say_of_itself_is_bounded(lie: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ArtifactFile.model_validate({"file": "a.bin", "kind": "data", "media_type": "text/plain", **lie})
