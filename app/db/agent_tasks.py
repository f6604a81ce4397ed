"""All SQL about what is to be measured on agents: leases and fences like those of jobs.

A task is wanted while the attempt that asked for it runs. An agent that reports on any other task is told so, and a
sweep drops those that nobody took.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Update, delete, func, select, update
from sqlalchemy.orm import Session

from app.db.tables import AgentTask, AgentTaskFile, Job, TaskState
from app.db.types import from_now

TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    "queued": frozenset({"leased", "failed", "dropped"}),
    "leased": frozenset({"queued", "done", "failed", "dropped"}),
    "done": frozenset(),
    "failed": frozenset(),
    "dropped": frozenset(),
}
UNFINISHED: tuple[TaskState, ...] = ("queued", "leased")
MAX_LOST = 3
"""Times that an agent may fall silent over one task: a model that takes the device down is not tried for ever."""
KEPT_SECONDS = 7 * 24 * 3600.0


def move(task: UUID, source_state: TaskState, to: TaskState, *, attempt: int | None = None, **values: Any) -> Update:
    """Build the compare-and-set that takes a task from one state to another, changing nothing if it is elsewhere."""
    if to not in TRANSITIONS[source_state]:
        raise ValueError(f"no task goes from {source_state} to {to}")
    statement = (
        update(AgentTask).where(AgentTask.id == task, AgentTask.state == source_state).values(state=to, **values)
    )
    return statement if attempt is None else statement.where(AgentTask.attempt == attempt)


def waiting(session: Session, agent: UUID) -> UUID | None:
    """Find an agent's oldest task that can be taken."""
    queued = select(AgentTask.id).where(AgentTask.agent_id == agent, AgentTask.state == "queued", _wanted())
    return session.scalar(queued.order_by(AgentTask.id).limit(1))


def claim(session: Session, task: UUID, *, lease_s: float) -> AgentTask | None:
    """Lease a waiting task; None if it was taken or dropped meanwhile."""
    took = move(task, "queued", "leased", lease_until=from_now(lease_s)).where(_wanted())
    return session.scalar(took.values({AgentTask.attempt: AgentTask.attempt + 1}).returning(AgentTask))


def renew_lease(session: Session, agent: UUID, task: UUID, attempt: int, *, lease_s: float) -> bool:
    """Renew a lease; False when this attempt was given up on, or nobody wants the task any more."""
    renewed = _held(agent, task, attempt).values(lease_until=from_now(lease_s)).where(_wanted())
    return session.scalar(renewed.returning(AgentTask.id)) is not None


def attach(session: Session, agent: UUID, attempt: int, file: AgentTaskFile) -> list[str] | None:
    """Record a file that the agent sent for its task; None when this attempt may no longer write.

    Returns the keys of what it replaces, which an earlier attempt sent.
    """
    held = select(AgentTask.id).where(
        AgentTask.id == file.task_id,
        AgentTask.agent_id == agent,
        AgentTask.attempt == attempt,
        AgentTask.state == "leased",
        _wanted(),
    )
    if session.scalar(held.with_for_update()) is None:
        return None
    old = delete(AgentTaskFile).where(AgentTaskFile.task_id == file.task_id, AgentTaskFile.role == file.role)
    replaced = list(session.scalars(old.returning(AgentTaskFile.key)))
    session.add(file)
    return replaced


def finish(session: Session, agent: UUID, task: UUID, attempt: int, *, result: dict[str, Any]) -> bool:
    """Record a result, once; False when this attempt may no longer write."""
    done = move(task, "leased", "done", attempt=attempt, result=result, **_END)
    return _changed(session, done.where(AgentTask.agent_id == agent, _wanted()))


def fail(session: Session, agent: UUID, task: UUID, attempt: int, *, error: dict[str, Any]) -> bool:
    """Record that the device could not do it; False when this attempt may no longer write."""
    failed = move(task, "leased", "failed", attempt=attempt, error=error, **_END)
    return _changed(session, failed.where(AgentTask.agent_id == agent, _wanted()))


def hand_back(session: Session, agent: UUID, task: UUID, attempt: int) -> bool:
    """Queue a task again without counting the attempt as lost: its agent is shutting down."""
    back = move(task, "leased", "queued", attempt=attempt, lease_until=None)
    return _changed(session, back.where(AgentTask.agent_id == agent))


def expired(session: Session) -> Sequence[AgentTask]:
    """Fetch the tasks whose agent fell silent."""
    silent = select(AgentTask).where(AgentTask.state == "leased", AgentTask.lease_until < from_now())
    return session.scalars(silent.with_for_update(skip_locked=True)).all()


def lose(session: Session, task: AgentTask, *, error: dict[str, Any]) -> bool:
    """Count an attempt as lost: queue the task again, or fail it when that happened too often."""
    lost = task.lost + 1
    if lost >= MAX_LOST:
        failed = move(task.id, "leased", "failed", attempt=task.attempt, lost=lost, error=error, **_END)
        return _changed(session, failed)
    return _changed(session, move(task.id, "leased", "queued", attempt=task.attempt, lost=lost, lease_until=None))


def give_up(session: Session, task: UUID, *, error: dict[str, Any]) -> bool:
    """Fail a task that its agent has not taken."""
    return _changed(session, move(task, "queued", "failed", error=error, **_END))


def fail_all(session: Session, agent: UUID, *, error: dict[str, Any]) -> None:
    """Fail everything that a revoked agent was to do."""
    for state in UNFINISHED:
        of_agent = update(AgentTask).where(AgentTask.agent_id == agent, AgentTask.state == state)
        session.execute(of_agent.values(state="failed", error=error, **_END))


def drop(session: Session, task: UUID) -> None:
    """Take a task back: its job goes on without it, or not at all."""
    for state in UNFINISHED:
        session.execute(move(task, state, "dropped", **_END))


def drop_unwanted(session: Session) -> None:
    """Take back what no running attempt waits for, and forget what ended long ago."""
    unwanted = update(AgentTask).where(AgentTask.state.in_(UNFINISHED), ~_wanted())
    session.execute(unwanted.values(state="dropped", **_END))
    old = select(AgentTask.id).where(AgentTask.finished_at < from_now(-KEPT_SECONDS))
    session.execute(delete(AgentTaskFile).where(AgentTaskFile.task_id.in_(old)))
    session.execute(delete(AgentTask).where(AgentTask.finished_at < from_now(-KEPT_SECONDS)))


def get(session: Session, task: UUID) -> AgentTask | None:
    """Fetch a task as it stands."""
    return session.scalar(select(AgentTask).where(AgentTask.id == task))


def files(session: Session, task: UUID) -> Sequence[AgentTaskFile]:
    """Fetch the files of a task."""
    return session.scalars(
        select(AgentTaskFile).where(AgentTaskFile.task_id == task).order_by(AgentTaskFile.role)
    ).all()


def file_of(session: Session, agent: UUID, task: UUID, sha256: str) -> AgentTaskFile | None:
    """Fetch a file of a task that this agent has leased."""
    joined = select(AgentTaskFile).join(AgentTask, AgentTask.id == AgentTaskFile.task_id)
    leased = joined.where(AgentTask.id == task, AgentTask.agent_id == agent, AgentTask.state == "leased")
    return session.scalar(leased.where(AgentTaskFile.sha256 == sha256).limit(1))


def counts(session: Session) -> list[tuple[TaskState, int]]:
    """Count the unfinished tasks by state."""
    rows = session.execute(
        select(AgentTask.state, func.count()).where(AgentTask.state.in_(UNFINISHED)).group_by(AgentTask.state)
    )
    return [(row[0], row[1]) for row in rows]


_END: dict[str, Any] = {"finished_at": from_now(), "lease_until": None}


def _wanted() -> ColumnElement[bool]:
    running = select(Job.id).where(Job.id == AgentTask.job_id, Job.attempt == AgentTask.job_attempt)
    return running.where(Job.state == "running").correlate(AgentTask).exists()


def _held(agent: UUID, task: UUID, attempt: int) -> Update:
    return update(AgentTask).where(
        AgentTask.id == task, AgentTask.agent_id == agent, AgentTask.attempt == attempt, AgentTask.state == "leased"
    )


def _changed(session: Session, statement: Update) -> bool:
    return session.scalar(statement.returning(AgentTask.id)) is not None
