"""What an attempt left is there for the next, belongs to the newest attempt alone, and ends with its use."""

from uuid import UUID

import pytest
from sqlalchemy import select, update

from app.db import checkpoints, jobs, references
from app.db.database import Database
from app.db.tables import Artifact, Checkpoint, Job
from app.db.types import from_now
from tests.support.job_rows import ERROR, claim, expire, lose, state

WEEK = 7 * 24 * 3600


def keep(
    database: Database, job: UUID, name: str, attempt: int = 1, version: str = "a", gone: tuple[str, ...] = ()
) -> list[str] | None:
    new = Checkpoint(
        job_id=job, name=name, attempt=attempt, sha256=version * 64, bytes=1, key=f"checkpoints/{name}-{version}"
    )
    with database.write() as session:
        replaced = checkpoints.keep(session, job, attempt, [new], gone)
        return None if replaced is None else sorted(replaced)


def kept(database: Database, job: UUID) -> dict[str, str]:
    with database.read() as session:
        return {one.name: one.key for one in checkpoints.of(session, job)}


def artifacts(database: Database, job: UUID) -> list[tuple[str, str, int]]:
    with database.read() as session:
        rows = session.scalars(select(Artifact).where(Artifact.job_id == job)).all()
        return [(row.kind, row.name, row.attempt) for row in rows]


def test_the_newest_version_counts_and_names_the_one_it_replaces(database: Database, job: UUID) -> None:
    claim(database, job)

    assert keep(database, job, "epoch") == []
    assert keep(database, job, "epoch", version="b") == ["checkpoints/epoch-a"]
    assert kept(database, job) == {"epoch": "checkpoints/epoch-b"}
    with database.read() as session:
        both = ["checkpoints/epoch-a", "checkpoints/epoch-b"]
        assert references.unreferred(session, both) == {"checkpoints/epoch-a"}


def test_what_is_of_no_more_use_goes_with_what_replaces_it(database: Database, job: UUID) -> None:
    claim(database, job)
    keep(database, job, "epoch")

    assert keep(database, job, "step-1.pt2", gone=("epoch", "never")) == ["checkpoints/epoch-a"]
    assert set(kept(database, job)) == {"step-1.pt2"}


def test_an_attempt_that_was_given_up_on_changes_nothing(database: Database, job: UUID) -> None:
    claim(database, job)
    keep(database, job, "epoch")
    expire(database, job)
    lose(database)

    assert keep(database, job, "epoch", version="b") is None  # it waits for a worker
    claim(database, job)
    assert keep(database, job, "epoch", version="b") is None  # another attempt has it
    assert kept(database, job) == {"epoch": "checkpoints/epoch-a"}
    assert keep(database, job, "epoch", attempt=2, version="b") == ["checkpoints/epoch-a"]


def test_a_job_whose_last_attempt_is_lost_shows_its_last_step(database: Database, job: UUID) -> None:
    claim(database, job)
    for name in ("step-2.pt2", "step-10.pt2", "step-9.json", "epoch"):
        keep(database, job, name)
    expire(database, job)
    lose(database)
    assert artifacts(database, job) == []  # it is tried again
    claim(database, job)
    expire(database, job)
    lose(database)

    assert state(database, job) == "failed"
    assert artifacts(database, job) == [("checkpoint", "step-10.pt2", 2)]


@pytest.mark.parametrize("end", ["succeeded", "canceled"])
def test_a_job_that_needs_no_retry_keeps_nothing(database: Database, job: UUID, end: str) -> None:
    claim(database, job)
    keep(database, job, "step-1.pt2")
    with database.write() as session:
        if end == "succeeded":
            assert jobs.succeed(session, job, 1, report={}, artifacts=())
        else:
            assert jobs.request_cancel(session, job)
            assert jobs.cancel_finished(session, job, 1)

    assert kept(database, job) == {}
    assert artifacts(database, job) == []


def test_a_failed_job_keeps_its_files_for_a_week(database: Database, job: UUID) -> None:
    claim(database, job)
    keep(database, job, "step-1.pt2")
    with database.write() as session:
        assert jobs.fail(session, job, 1, error=ERROR)
        checkpoints.drop_old(session)
    assert kept(database, job)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job).values(finished_at=from_now(-WEEK - 60)))
        checkpoints.drop_old(session)

    assert kept(database, job) == {}
    with database.read() as session:
        assert references.unreferred(session, ["checkpoints/step-1.pt2-a"]) == set()  # the artifact still shows it
