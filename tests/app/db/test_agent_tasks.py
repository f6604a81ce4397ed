"""What is to be measured on agents moves as jobs do: leased by one, fenced by attempt, dropped when nobody waits."""

import threading
from uuid import UUID

import pytest
from sqlalchemy import update

from app.db import agent_tasks, agents, jobs, references
from app.db.database import Database
from app.db.tables import Agent, AgentTask, AgentTaskFile
from app.db.types import from_now
from app.ids import new_id
from tests.support.job_rows import ERROR, claim

LEASE = 60.0


@pytest.fixture
def agent(database: Database) -> UUID:
    return an_agent(database)


@pytest.fixture
def task(database: Database, job: UUID, agent: UUID) -> UUID:
    claim(database, job)
    new = new_id()
    with database.write() as session:
        session.add(AgentTask(id=new, tenant="t", agent_id=agent, job_id=job, job_attempt=1, payload={}))
        session.flush()
        session.add(AgentTaskFile(task_id=new, role="rows", sha256="a" * 64, bytes=1, key="agent-files/rows"))
    return new


def an_agent(database: Database) -> UUID:
    new = new_id()
    with database.write() as session:
        session.add(Agent(id=new, tenant="t", name="pi", labels={}, facts={}, credential_sha256=new.hex * 2))
    return new


def take(database: Database, agent: UUID) -> int | None:
    with database.write() as session:
        waiting = agent_tasks.waiting(session, agent)
        row = None if waiting is None else agent_tasks.claim(session, waiting, lease_s=LEASE)
        return None if row is None else row.attempt


def finish(database: Database, agent: UUID, task: UUID, attempt: int) -> bool:
    with database.write() as session:
        return agent_tasks.finish(session, agent, task, attempt, result={"load_ms": 1})


def renew_lease(database: Database, agent: UUID, task: UUID, attempt: int) -> bool:
    with database.write() as session:
        return agent_tasks.renew_lease(session, agent, task, attempt, lease_s=LEASE)


def state(database: Database, task: UUID) -> tuple[str, int, int]:
    with database.read() as session:
        row = agent_tasks.get(session, task)
        assert row is not None
        return row.state, row.attempt, row.lost


def fall_silent(database: Database, task: UUID) -> None:
    with database.write() as session:
        session.execute(update(AgentTask).where(AgentTask.id == task).values(lease_until=from_now(-1)))
    with database.write() as session:
        for lost in agent_tasks.expired(session):
            agent_tasks.lose(session, lost, error=ERROR)


def test_only_its_own_agent_takes_a_task_and_once(database: Database, agent: UUID, task: UUID) -> None:
    assert take(database, an_agent(database)) is None
    assert take(database, agent) == 1
    assert take(database, agent) is None
    with database.read() as session:
        assert agent_tasks.file_of(session, agent, task, "a" * 64) is not None
        assert agent_tasks.file_of(session, an_agent(database), task, "a" * 64) is None


def test_a_silent_agent_loses_the_task_and_what_it_says_later_counts_for_nothing(
    database: Database, agent: UUID, task: UUID
) -> None:
    take(database, agent)
    assert renew_lease(database, agent, task, 1)
    fall_silent(database, task)

    assert state(database, task) == ("queued", 1, 1)
    assert take(database, agent) == 2
    assert not renew_lease(database, agent, task, 1)
    assert not finish(database, agent, task, 1)
    assert not finish(database, an_agent(database), task, 2)
    assert finish(database, agent, task, 2)
    assert not finish(database, agent, task, 2)
    assert state(database, task) == ("done", 2, 1)


def test_a_task_that_takes_its_device_down_is_not_tried_for_ever(database: Database, agent: UUID, task: UUID) -> None:
    for _ in range(agent_tasks.MAX_LOST):
        assert take(database, agent) is not None
        fall_silent(database, task)

    assert state(database, task) == ("failed", 3, 3)
    assert take(database, agent) is None


def test_handing_back_does_not_count(database: Database, agent: UUID, task: UUID) -> None:
    take(database, agent)
    with database.write() as session:
        assert agent_tasks.hand_back(session, agent, task, 1)

    assert state(database, task) == ("queued", 1, 0)
    assert take(database, agent) == 2


@pytest.mark.parametrize("leased", [False, True])
def test_what_no_running_attempt_waits_for_is_dropped(
    database: Database, job: UUID, agent: UUID, task: UUID, *, leased: bool
) -> None:
    if leased:
        take(database, agent)
    with database.write() as session:
        jobs.request_cancel(session, job)

    assert take(database, agent) is None
    assert not renew_lease(database, agent, task, 1)
    assert not finish(database, agent, task, 1)
    with database.write() as session:
        agent_tasks.drop_unwanted(session)
    assert state(database, task)[0] == "dropped"


def test_a_later_attempt_of_the_job_does_not_get_the_tasks_of_an_earlier_one(
    database: Database, job: UUID, agent: UUID, task: UUID
) -> None:
    with database.write() as session:
        jobs.hand_back(session, job, 1)
    claim(database, job)

    assert take(database, agent) is None


def test_revoking_fails_what_was_waiting(database: Database, agent: UUID, task: UUID) -> None:
    with database.write() as session:
        assert agents.revoke(session, "t", agent)
        agent_tasks.fail_all(session, agent, error=ERROR)

    assert state(database, task)[0] == "failed"
    with database.read() as session:
        assert agents.by_credential(session, agent.hex * 2) is None
        assert agents.counts(session) == (0, 0)


def test_files_are_kept_while_the_task_is_unfinished_and_old_tasks_are_forgotten(
    database: Database, agent: UUID, task: UUID
) -> None:
    with database.read() as session:
        assert references.unreferred(session, ["agent-files/rows"]) == set()
    take(database, agent)
    finish(database, agent, task, 1)
    with database.write() as session:
        assert references.unreferred(session, ["agent-files/rows"]) == {"agent-files/rows"}
        long_ago = from_now(-agent_tasks.KEPT_SECONDS - 1)
        session.execute(update(AgentTask).where(AgentTask.id == task).values(finished_at=long_ago))
    with database.write() as session:
        agent_tasks.drop_unwanted(session)
    with database.read() as session:
        assert agent_tasks.get(session, task) is None


def test_the_table_of_transitions_is_the_law() -> None:
    with pytest.raises(ValueError, match="no task goes from done to queued"):
        agent_tasks.move(new_id(), "done", "queued")


def test_an_agent_is_not_revoked_while_a_task_is_added_for_it(database: Database, job: UUID, agent: UUID) -> None:
    """Else the task would come after all of the agent's tasks were failed, and wait for nobody."""

    def revoke() -> None:
        with database.write() as session:
            agents.revoke(session, "t", agent)
            agent_tasks.fail_all(session, agent, error=ERROR)

    claim(database, job)
    new, revoking = new_id(), threading.Thread(target=revoke)
    with database.write() as session:
        assert agents.hold(session, agent)
        revoking.start()
        revoking.join(0.3)
        assert revoking.is_alive()
        session.add(AgentTask(id=new, tenant="t", agent_id=agent, job_id=job, job_attempt=1, payload={}))
    revoking.join(10)

    assert state(database, new)[0] == "failed"
    with database.write() as session:
        assert not agents.hold(session, agent)
