"""The steps of a job's life hold under races, on both databases."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app.db import events, jobs, workers
from app.db.database import Database
from app.db.states import TRANSITIONS, move
from app.db.tables import Artifact, Job, JobState
from app.db.types import from_now
from app.ids import new_id
from app.spec.progress import JobProgress
from tests.support.job_rows import ERROR, LEASE, claim, expire, lose, state


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    barrier = threading.Barrier(len(calls))

    def call(one: Callable[[], Any]) -> Any:
        barrier.wait()
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_one_of_many_claims_succeeds(database: Database, job: UUID) -> None:
    attempts = at_once([lambda number=number: claim(database, job, f"w{number}") for number in range(8)])

    assert sorted(filter(None, attempts)) == [1]


def test_a_worker_of_another_queue_cannot_claim(database: Database, job: UUID) -> None:
    with database.write() as session:
        assert jobs.claim(session, job, worker="w", queue="cuda", lease_s=LEASE) is None


def test_one_of_many_results_becomes_visible(database: Database, job: UUID) -> None:
    attempt = claim(database, job)
    assert attempt == 1

    def finish(number: int) -> bool:
        artifact = Artifact(
            id=new_id(),
            tenant="t",
            job_id=job,
            attempt=1,
            name=f"{number}.onnx",
            kind="model",
            media_type="application/octet-stream",
            target=0,
            sha256="0" * 64,
            bytes=1,
            key=f"artifacts/{number}",
        )
        with database.write() as session:
            return jobs.succeed(session, job, 1, report={"number": number}, artifacts=[artifact])

    won = at_once([lambda number=number: finish(number) for number in range(6)])

    assert won.count(True) == 1
    with database.read() as session:
        found = jobs.of(session, "t", job)
        assert found is not None
        assert found.report == {"number": won.index(True)}
        assert [one.name for one in jobs.artifacts_of(session, found)] == [f"{won.index(True)}.onnx"]


def test_a_worker_that_was_given_up_on_cannot_write(database: Database, job: UUID) -> None:
    zombie = claim(database, job)
    assert zombie == 1
    expire(database, job)
    assert lose(database) == 1
    assert claim(database, job, "w2") == 2

    with database.write() as session:
        assert jobs.renew_lease(session, job, 1, lease_s=LEASE, progress=None) is None
        assert not jobs.succeed(session, job, 1, report={}, artifacts=[])
        assert not jobs.fail(session, job, 1, error=ERROR)
        assert not jobs.hand_back(session, job, 1)
        assert jobs.succeed(session, job, 2, report={}, artifacts=[])
    assert state(database, job) == "succeeded"


def test_a_job_is_failed_when_its_attempts_are_used_up(database: Database, job: UUID) -> None:
    for attempt in (1, 2):
        assert claim(database, job) == attempt
        expire(database, job)
        assert lose(database) == 1

    assert state(database, job) == "failed"
    assert claim(database, job) is None


def test_a_drained_attempt_does_not_count(database: Database, job: UUID) -> None:
    for attempt in range(1, 6):
        assert claim(database, job) == attempt
        with database.write() as session:
            assert jobs.hand_back(session, job, attempt)

    assert state(database, job) == "queued"


def test_a_lost_job_waits_longer_each_time(database: Database, job: UUID) -> None:
    claim(database, job)
    expire(database, job)
    with database.write() as session:
        (lost,) = jobs.expired(session)
        jobs.give_up_on(session, lost, backoff_s=3600, error=ERROR)

    assert claim(database, job) is None  # not due yet
    with database.read() as session:
        assert jobs.of(session, "t", job).state == "queued"  # type: ignore[union-attr]


def test_the_lease_is_renewed_by_the_heartbeat(database: Database, job: UUID) -> None:
    claim(database, job)
    expire(database, job)
    progress = JobProgress(stage="quantize.static", step=1, steps=2, fraction=0.5, message="half")
    with database.write() as session:
        assert jobs.renew_lease(session, job, 1, lease_s=LEASE, progress=progress) == "running"

    assert lose(database) == 0
    with database.read() as session:
        found = jobs.of(session, "t", job)
        assert found is not None
        assert (found.stage, found.step, found.fraction) == ("quantize.static", 1, 0.5)


def test_canceling_a_waiting_job_ends_it_at_once(database: Database, job: UUID) -> None:
    with database.write() as session:
        assert jobs.request_cancel(session, job)

    assert state(database, job) == "canceled"
    assert claim(database, job) is None


def test_canceling_a_running_job_asks_its_worker(database: Database, job: UUID) -> None:
    claim(database, job)
    with database.write() as session:
        assert jobs.request_cancel(session, job)
        assert jobs.renew_lease(session, job, 1, lease_s=LEASE, progress=None) == "canceling"
        assert not jobs.succeed(session, job, 1, report={}, artifacts=[])
        assert jobs.cancel_finished(session, job, 1)

    assert state(database, job) == "canceled"


def test_a_worker_lost_while_canceling_leaves_a_canceled_job(database: Database, job: UUID) -> None:
    claim(database, job)
    with database.write() as session:
        jobs.request_cancel(session, job)
    expire(database, job)

    assert lose(database) == 1
    assert state(database, job) == "canceled"


def test_cancel_and_finish_at_once_give_one_end(database: Database, job: UUID) -> None:
    claim(database, job)

    def finish() -> bool:
        with database.write() as session:
            return jobs.succeed(session, job, 1, report={}, artifacts=[])

    def cancel() -> bool:
        with database.write() as session:
            return jobs.request_cancel(session, job)

    finished, asked = at_once([finish, cancel])

    assert finished != asked
    assert state(database, job) == ("succeeded" if finished else "canceling")


def test_a_retry_hides_what_was_delivered_before(database: Database, job: UUID) -> None:
    claim(database, job)
    kept = Artifact(
        id=new_id(),
        tenant="t",
        job_id=job,
        attempt=1,
        name="a.onnx",
        kind="model",
        media_type="application/octet-stream",
        target=0,
        sha256="0" * 64,
        bytes=1,
        key="artifacts/a",
    )
    with database.write() as session:
        jobs.fail(session, job, 1, error=ERROR, report={}, artifacts=[kept])
    with database.read() as session:
        found = jobs.of(session, "t", job)
        assert found is not None
        assert len(jobs.artifacts_of(session, found)) == 1

    with database.write() as session:
        assert jobs.retry(session, job)
        assert not jobs.retry(session, job)
        assert jobs.request_cancel(session, job)

    with database.read() as session:
        found = jobs.of(session, "t", job)
        assert found is not None
        assert jobs.artifacts_of(session, found) == []
        assert jobs.artifact(session, "t", kept.id) is None


def test_what_an_attempt_delivers_is_hidden_while_it_is_at_work(database: Database, job: UUID) -> None:
    claim(database, job)
    early = Artifact(
        id=new_id(),
        tenant="t",
        job_id=job,
        attempt=1,
        name="a.onnx",
        kind="model",
        media_type="application/octet-stream",
        target=0,
        sha256="0" * 64,
        bytes=1,
        key="artifacts/a",
    )
    with database.write() as session:
        session.add(early)
    with database.read() as session:
        assert jobs.artifact(session, "t", early.id) is None

    with database.write() as session:
        assert jobs.succeed(session, job, 1, report={}, artifacts=[])
    with database.read() as session:
        assert jobs.artifact(session, "t", early.id) is not None
        assert jobs.artifact(session, "other", early.id) is None


def test_each_loss_doubles_the_wait(database: Database, job: UUID) -> None:
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job).values(max_attempts=3))
    waits = []
    for _ in range(2):
        assert claim(database, job) is not None
        with database.write() as session:
            found = jobs.of(session, "t", job)
            assert found is not None
            jobs.give_up_on(session, found, backoff_s=3600, error=ERROR)
        with database.write() as session:
            run_after, now = session.execute(select(Job.run_after, from_now()).where(Job.id == job)).one()
            waits.append((run_after - now).total_seconds())
            session.execute(update(Job).where(Job.id == job).values(run_after=from_now()))

    assert [round(wait / 3600, 1) for wait in waits] == [1.0, 2.0]


def test_two_dispatchers_never_take_the_same_job(database: Database, job: UUID) -> None:
    def take() -> list[tuple[UUID, str]]:
        with database.write() as session:
            return jobs.publishable(session, republish_s=60)

    taken = at_once([take] * 6)

    assert sum(map(len, taken)) == 1
    assert [(job, "cpu")] in taken


def test_an_unclaimed_message_is_sent_again(database: Database, job: UUID) -> None:
    with database.write() as session:
        assert jobs.publishable(session, republish_s=60)
        assert not jobs.publishable(session, republish_s=60)
        session.execute(update(Job).where(Job.id == job).values(published_at=from_now(-61)))
        assert jobs.publishable(session, republish_s=60)
        jobs.unpublish(session, [job])
        assert jobs.publishable(session, republish_s=60)


def test_events_are_numbered_without_gaps_under_a_race(database: Database, job: UUID) -> None:
    def add() -> None:
        with database.write() as session:
            events.add(session, job, "log", {"level": "info", "message": "x"})

    at_once([add] * 10)

    with database.read() as session:
        found = events.after(session, job, 0, limit=100)
        assert [one.seq for one in found] == list(range(1, 11))
        assert [one.seq for one in events.after(session, job, 7, limit=2)] == [8, 9]


def test_another_tenant_sees_nothing(database: Database, job: UUID) -> None:
    with database.read() as session:
        assert jobs.of(session, "other", job) is None


def test_one_process_has_the_turn(database: Database) -> None:
    def claim_run() -> bool:
        with database.write() as session:
            return workers.claim_run(session, "sweep", every_s=60)

    assert at_once([claim_run] * 6).count(True) == 1
    assert at_once([claim_run] * 6).count(True) == 0


def test_a_worker_is_alive_until_it_signs_off(database: Database) -> None:
    with database.write() as session:
        workers.seen(session, "w1", queue="cpu", facts={"devices": ["x"]})
        workers.seen(session, "w1", queue="cpu", facts={"devices": ["y"]})
        assert workers.serving(session, "cpu") == 1
        assert workers.serving(session, "cuda") == 0
        assert [one.facts for one in workers.alive(session)] == [{"devices": ["y"]}]
        workers.gone(session, "w1")
        assert workers.serving(session, "cpu") == 0


@pytest.mark.parametrize("source_state", list(TRANSITIONS))
def test_no_statement_is_built_for_a_forbidden_move(source_state: JobState) -> None:
    for to in set(TRANSITIONS) - TRANSITIONS[source_state]:
        with pytest.raises(ValueError, match="no job goes from"):
            move(new_id(), source_state, to)


def test_behind_a_busy_worker_only_the_oldest_messages_are_sent_again(database: Database, job: UUID) -> None:
    with database.write() as session:
        first = jobs.of(session, "t", job)
        assert first is not None
        waiting = [first.id]
        for queue in ["cpu"] * 29 + ["cuda"]:
            waiting.append(new_id())
            session.add(
                Job(
                    id=waiting[-1],
                    tenant="t",
                    name="j",
                    labels={},
                    spec={},
                    request_sha256="",
                    model_id=first.model_id,
                    queue=queue,
                    max_attempts=1,
                )
            )
    with database.write() as session:
        assert len(jobs.publishable(session, republish_s=60)) == 31
        session.execute(update(Job).values(published_at=from_now(-61)))
        again = jobs.publishable(session, republish_s=60)

    assert [one for one, queue in again if queue == "cuda"] == [waiting[-1]]
    assert sorted(one for one, queue in again if queue == "cpu") == sorted(waiting[:30])[: jobs.REPUBLISHED]
