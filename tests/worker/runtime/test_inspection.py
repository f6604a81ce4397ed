"""Every uploaded model is looked at by a job of the service's own, which nobody sees and nothing waits for."""

import threading
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app.api.components import Components
from app.api.resources import ModelDetailOut
from app.db import jobs
from app.db.tables import Job, Model
from app.db.types import from_now
from app.ids import NotFound, public
from app.services.sweep import Sweeper
from app.settings import Settings
from app.spec.base import ModelId
from tests.support.installation.waiting import until
from tests.support.migrated import migrate_sqlite
from tests.support.runtime.fixed_child import Sending, uploaded
from worker.runtime.jail.level import JailLevel
from worker.runtime.job_sandbox import JobSandbox
from worker.runtime.runner import Runner


@pytest.fixture
def parts(tmp_path: Path) -> Components:
    settings = Settings(data_dir=tmp_path, heartbeat_s=0.2, retry_backoff_s=0)
    migrate_sqlite(settings.database)
    (tmp_path / "scratch").mkdir()
    return Components.build(settings)


def inspection(parts: Components, model: ModelId) -> UUID:
    """The job that looks at a model."""
    with parts.database.read() as session:
        return session.scalars(select(Job.id).where(Job.model_id == UUID(model.removeprefix("mdl_")))).one()


def job(parts: Components, model: ModelId) -> Job:
    with parts.database.read() as session:
        return session.get_one(Job, inspection(parts, model))


def work(parts: Components, job_sandbox: JobSandbox, model: ModelId, entry: str) -> None:
    runner = Runner(
        parts.database,
        parts.store,
        Sending(job_sandbox, entry),
        parts.settings,
        scratch=parts.settings.data_dir / "scratch",
        name="w",
        is_draining=lambda: False,
    )
    runner.run(inspection(parts, model))


def shown(parts: Components, model: ModelId) -> dict:
    return ModelDetailOut.of(parts.library.get(Model, "t", model)).model_dump()["inspection"]


def test_what_was_found_is_shown_with_the_model(parts: Components, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    model = uploaded(parts, tmp_path, seed=0)
    assert shown(parts, model) == {"status": "pending"}
    work(parts, job_sandbox, model, "inspects")

    found = shown(parts, model)

    assert (found["status"], found["parameters"], found["macs"]) == ("ready", 12, 12)
    assert found["steps"]["prune.channels"]["says"] == "It has one layer."
    assert job(parts, model).state == "succeeded"
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("entry", "code"),
    [("documented_error", "test.too_square"), ("inspects_too_much", "worker.crashed"), ("exits", "worker.crashed")],
)
def test_a_model_that_cannot_be_looked_at_says_why(
    parts: Components, job_sandbox: JobSandbox, tmp_path: Path, entry: str, code: str
) -> None:
    model = uploaded(parts, tmp_path, seed=0)
    for _ in range(job(parts, model).max_attempts):
        work(parts, job_sandbox, model, entry)

    assert (shown(parts, model)["status"], shown(parts, model)["error"]["code"]) == ("failed", code)


def test_nobody_sees_the_job(parts: Components, tmp_path: Path) -> None:
    model = uploaded(parts, tmp_path, seed=0)
    hidden = public("job", inspection(parts, model))

    assert parts.jobs.page("t", limit=10, after=None, labels={}, status=None) == ([], False)
    for look in (parts.jobs.get, parts.jobs.cancel, parts.jobs.retry, parts.jobs.artifacts):
        with pytest.raises(NotFound):
            look("t", hidden)


def test_a_model_is_deleted_under_its_inspection(parts: Components, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    waiting, running = (uploaded(parts, tmp_path, seed=seed) for seed in range(2))
    at_work = threading.Thread(target=work, args=(parts, job_sandbox, running, "looks_for_long"))
    at_work.start()
    until(lambda: job(parts, running).stage == "looking", "the inspection to begin")

    for model in (waiting, running):
        parts.library.delete(Model, "t", model)
    at_work.join(20)

    assert [job(parts, model).state for model in (waiting, running)] == ["canceled", "canceled"]
    assert list(parts.store.list("models/")) == []


def test_a_lost_worker_is_told_in_the_model_too(parts: Components, tmp_path: Path) -> None:
    model = uploaded(parts, tmp_path, seed=0)
    for _ in range(job(parts, model).max_attempts):
        with parts.database.write() as session:
            assert jobs.claim(session, inspection(parts, model), worker="w", queue="cpu", lease_s=60)
            session.execute(update(Job).values(lease_until=from_now(-1)))
        sweeper = Sweeper(parts.database, parts.store, parts.settings)
        with parts.database.write() as session:
            sweeper._recover(session)

    assert shown(parts, model)["error"]["code"] == "worker.lost"


def test_a_risky_format_is_not_looked_at_without_the_whole_jail(parts: Components, tmp_path: Path) -> None:
    model = uploaded(parts, tmp_path, seed=0, model_format="pt2")

    class Weak:
        jail_level = JailLevel(rlimits=True, no_new_privs=True, landlock=0, seccomp=True, missing=("landlock",))

    Runner(
        parts.database, parts.store, Weak(), parts.settings, scratch=tmp_path, name="w", is_draining=lambda: False
    ).run(inspection(parts, model))

    assert shown(parts, model)["error"]["code"] == "worker.sandbox_too_weak"


def test_a_service_may_look_at_no_models(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, inspect_uploads=False)
    migrate_sqlite(settings.database)
    parts = Components.build(settings)
    model = uploaded(parts, tmp_path, seed=0)

    assert shown(parts, model) is None
    with parts.database.read() as session:
        assert session.scalars(select(Job)).all() == []
