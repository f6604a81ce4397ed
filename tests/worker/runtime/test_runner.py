"""What a runner decides before it lets a child near a model."""

import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from app.api.components import Components
from app.db import jobs
from app.db.tables import Job
from app.services.library import Arrival
from app.settings import Settings
from app.spec.job import JobSpec
from app.spec.signature import ModelInfo
from app.spec.work import Failure, WorkResult
from migrations import upgrade
from tests.support.files import onnx_classifier
from tests.support.runtime.orders import result
from worker.runtime.embedded import only_one
from worker.runtime.errors import AlreadyRunning
from worker.runtime.jail.level import JailLevel
from worker.runtime.job_sandbox import Listeners, Outcome
from worker.runtime.runner import Runner

WEAK = JailLevel(rlimits=True, no_new_privs=True, landlock=0, seccomp=True, missing=("landlock: no such layer",))
FULL = JailLevel(rlimits=True, no_new_privs=True, landlock=5, seccomp=True)
ENDED = Failure(code="step.nothing_to_quantize", detail="The child was asked.", remedy="None.")


class Bench:
    """A job_sandbox of a given jail level whose child always answers the same."""

    def __init__(self, level: JailLevel, outcome: Outcome = ENDED) -> None:
        self.jail_level = level
        self.outcome = outcome

    def run(self, directory: Path, limits: Any, listeners: Listeners, **options: object) -> Outcome:
        assert (directory / "order.json").exists()
        if isinstance(self.outcome, WorkResult):
            (directory / "out").mkdir()
            for file in self.outcome.artifacts:
                (directory / "out" / file.file).write_bytes(b"the same bytes every time")
        return self.outcome


@pytest.fixture
def parts(tmp_path: Path) -> Components:
    settings = Settings(data_dir=tmp_path)
    upgrade(settings.database)
    return Components.build(settings)


def submitted(parts: Components, tmp_path: Path, model_format: str) -> UUID:
    """A queued job for a model of this format."""
    (tmp_path / "model").write_bytes(onnx_classifier())
    digest = hashlib.sha256(onnx_classifier()).hexdigest()
    model = parts.library.add_model("t", Arrival(tmp_path / "model", len(onnx_classifier()), digest, "m", {}))
    with parts.database.write() as session:
        info = ModelInfo.model_validate(model.info).model_copy(update={"format": model_format})
        model.info = info.model_dump(mode="json")
        session.merge(model)
    return parts.jobs.submit("t", JobSpec(model=f"mdl_{model.id.hex}"), key=None).id


def run_with(parts: Components, tmp_path: Path, bench: Bench, job_id: UUID) -> None:
    runner = Runner(
        parts.database, parts.store, bench, parts.settings, scratch=tmp_path, name="w", is_draining=lambda: False
    )
    runner.run(job_id)


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
    run_with(parts, tmp_path, Bench(level), job_id)

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
    bench = Bench(FULL, Failure(code=code, detail="It ended.", remedy="None."))
    run_with(parts, tmp_path, bench, job_id)

    with parts.database.read() as session:
        job = jobs.of(session, "t", job_id)
    assert isinstance(job, Job)
    assert (job.state, job.lost) == (state, 1 if state == "queued" else 0)


def test_two_attempts_never_write_the_same_key(parts: Components, tmp_path: Path) -> None:
    job_id = submitted(parts, tmp_path, "onnx")
    bench = Bench(FULL, result("model.onnx"))
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
