"""Takes what a job's process wants measured to device agents, and brings the answers back.

The process may reach neither the store nor the database, and is hostile ground: files are copied out of its folder
without following a link, and only agents that the job names are asked. See
`worker.engine.devices.agent_task` for the other side.
"""

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self, TypeVar, get_args
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.db import agent_tasks, agents
from app.db.database import Database
from app.db.tables import AgentTask, AgentTaskFile, Job
from app.errors import PareError
from app.ids import new_id, parse
from app.services.agent_errors import AgentRevoked, AgentUnfit, AgentUnreachable
from app.settings import Settings
from app.spec.agents import OUTPUTS, AgentFacts, AgentMeasurement, AgentOrder, Role
from app.spec.devices import AgentDevice
from app.spec.failure import Failure
from app.spec.job import JobSpec
from app.storage import Store
from worker.engine.devices.agent_task import ANSWER, FOLDER, ORDER, AgentAnswer
from worker.engine.progress import AgentsMissing
from worker.runtime.errors import Crashed
from worker.runtime.retry import DATABASE_AWAY, SERVERS_AWAY, STORAGE_AWAY_SECONDS, retry
from worker.runtime.untrusted_dir import UntrustedDir

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_TASKS: Final = 128
"""Of one attempt: 8 targets on 16 devices."""
POLL_S: Final = 0.5
MAX_ORDER_BYTES: Final = 64 << 10


class _JobOver(Exception):
    """The job's process waits no more."""


class AgentProxy:
    """The tasks of one attempt. Use it as a context manager: leaving it takes back what no agent has finished."""

    def __init__(
        self,
        database: Database,
        store: Store,
        settings: Settings,
        job: Job,
        directory: Path,
        should_stop: Callable[[], str | None],
    ) -> None:
        """Nothing is asked before `ask`."""
        self._database, self._store, self._settings = database, store, settings
        self._job, self._directory, self._should_stop = job, directory, should_stop
        self._threads: dict[int, threading.Thread] = {}
        self._keys: set[str] = set()
        self._has_refused = False
        self._over = threading.Event()

    def __enter__(self) -> Self:
        # Beside the job's directory: on the same disk, outside of what the child may touch.
        self._aside = TemporaryDirectory(dir=self._directory.parent, prefix="sent-", ignore_cleanup_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads.values():
            thread.join()
        self._aside.cleanup()
        for key in self._keys:
            with contextlib.suppress(PareError):  # the sweep finds what is left
                self._store.delete(key)

    def ask(self, number: int, agent: str) -> None:
        """Take the task in folder `number` to `agent`. What is odd is ignored."""
        if number in self._threads or len(self._threads) >= MAX_TASKS:
            if not self._has_refused:  # once is enough: the child may ask as often as it likes
                log.warning("job_%s: task %d for an agent was asked for in vain", self._job.id.hex, number)
            self._has_refused = True
            return
        thread = threading.Thread(target=self._serve, args=(number, agent), name=f"agent-task-{number}", daemon=True)
        self._threads[number] = thread
        thread.start()

    def _serve(self, number: int, agent: str) -> None:
        folder = self._directory / FOLDER / str(number)
        try:
            answer = self._answered(folder, number, agent)
        except _JobOver:
            return
        except PareError as error:
            answer = AgentAnswer(failure=Failure.of(error))
        except Exception:  # the child waits: it must hear of any fault of ours
            log.exception("job_%s: task %d did not get to its agent", self._job.id.hex, number)
            answer = AgentAnswer(failure=Failure.of(AgentUnreachable("The worker could not ask the device.")))
        write_answer(folder, answer)

    def _answered(self, folder: Path, number: int, agent: str) -> AgentAnswer:
        """Raises `PareError` for whatever the store or the child did, `_JobOver` where nobody waits any more."""
        aside = Path(self._aside.name, str(number))
        aside.mkdir()
        row, files = self._task(folder, aside, agent)

        def insert(session: Session) -> None:
            if not agents.hold(session, row.agent_id):  # storing the files took time
                raise AgentRevoked("The agent was revoked before the job came to it.")
            session.add(row)
            session.flush()
            session.add_all(files)

        self._write(insert)
        try:
            ended = self._await_end(row.id)
        finally:
            with contextlib.suppress(*DATABASE_AWAY), self._database.write() as session:
                agent_tasks.drop(session, row.id)  # else the sweep does
        if ended.error is not None:
            return AgentAnswer(failure=Failure.model_validate(ended.error))
        measurement = AgentMeasurement.model_validate(ended.result)
        self._bring_outputs(row.id, measurement, aside, folder)
        return AgentAnswer(measurement=measurement)

    def _task(self, folder: Path, aside: Path, agent: str) -> tuple[AgentTask, list[AgentTaskFile]]:
        spec = JobSpec.model_validate(self._job.spec)
        named = {device.agent for device in spec.evaluate.devices if isinstance(device, AgentDevice)}
        if agent not in named:
            raise Crashed("The job's process asked for an agent that the job does not name.")
        order = self._taken(folder, aside)
        self._require_able(agent, order)
        task = new_id()
        files = [self._stored(role, aside / role, task) for role in get_args(Role)]
        row = AgentTask(
            id=task,
            tenant=self._job.tenant,
            agent_id=parse("agt", agent),
            job_id=self._job.id,
            job_attempt=self._job.attempt,
            payload=order.model_dump(mode="json"),
        )
        return row, files

    def _taken(self, folder: Path, aside: Path) -> AgentOrder:
        """What the job's process wants done; the files for it are copied to `aside`. Raises `Crashed`."""
        try:
            with UntrustedDir(folder) as place:
                order = AgentOrder.model_validate_json(place.read(ORDER, max_bytes=MAX_ORDER_BYTES))
                for role in get_args(Role):
                    place.copy_out(role, aside / role, max_bytes=self._settings.child_disk_bytes)
        except ValidationError as error:
            raise Crashed("The job's process asked an agent for something that is no task.") from error
        except OSError as error:
            raise Crashed(f"A file for an agent could not be taken from the job: {error.strerror}.") from error
        return order

    def _require_able(self, agent: str, order: AgentOrder) -> None:
        with self._database.read() as session:
            row = agents.of(session, self._job.tenant, parse("agt", agent))
        if row is None:
            raise AgentRevoked("The agent was revoked before the job came to it.")
        if order.runtime not in AgentFacts.model_validate(row.facts).runtimes:
            raise AgentUnfit(f"Agent {row.name} has no {order.runtime}.")

    def _stored(self, role: Role, path: Path, task: UUID) -> AgentTaskFile:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        key = f"agent-files/{self._job.id.hex}/{self._job.attempt}/{digest}"
        self._keys.add(key)
        self._retry(lambda: self._store.put(key, path, sha256=digest, media_type="application/octet-stream"))
        size = path.stat().st_size
        path.unlink()
        return AgentTaskFile(task_id=task, role=role, sha256=digest, bytes=size, key=key)

    def _await_end(self, task: UUID) -> AgentTask:
        """The task when it has ended. Raises `_JobOver`."""
        last_leased = time.monotonic()
        while not self._over.wait(POLL_S) and not self._should_stop():
            row = self._retry(lambda: self._row(task))
            if row is None or row.state == "dropped":
                break
            if row.state in {"done", "failed"}:
                return row
            if row.state == "leased":
                last_leased = time.monotonic()
            elif time.monotonic() - last_leased > self._settings.agent_wait_s:
                self._give_up(task)
        raise _JobOver

    def _give_up(self, task: UUID) -> None:
        failure = Failure.of(AgentUnreachable("The device has not taken the task."))
        self._write(lambda session: agent_tasks.give_up(session, task, error=failure.model_dump()))

    def _row(self, task: UUID) -> AgentTask | None:
        with self._database.read() as session:
            return agent_tasks.get(session, task)

    def _bring_outputs(self, task: UUID, measurement: AgentMeasurement, aside: Path, folder: Path) -> None:
        with self._database.read() as session:
            sent = next(file for file in agent_tasks.files(session, task) if file.role == OUTPUTS)
        self._keys.add(sent.key)
        fetched = aside / OUTPUTS
        self._retry(lambda: self._store.fetch(sent.key, fetched, sha256=measurement.outputs_sha256))
        with UntrustedDir(folder) as place:
            place.move_in(fetched, OUTPUTS)

    def _write(self, act: Callable[[Session], object]) -> None:
        def once() -> None:
            with self._database.write() as session:
                act(session)

        self._retry(once)

    def _retry(self, act: Callable[[], T]) -> T:
        return retry(SERVERS_AWAY, act, seconds=STORAGE_AWAY_SECONDS, should_stop=self._should_stop)


def without_agents(directory: Path) -> Callable[[int, str], None]:
    """What answers the tasks of a job that runs without a service: there are no agents."""
    failure = Failure.of(AgentsMissing("Agents belong to a service; this job runs without one."))
    refused = AgentAnswer(failure=failure)
    return lambda number, _agent: write_answer(directory / FOLDER / str(number), refused)


def write_answer(folder: Path, answer: AgentAnswer) -> None:
    """Put the answer where the job's process looks for it."""
    try:
        with UntrustedDir(folder) as place:
            place.put(ANSWER, answer.model_dump_json().encode())
    except OSError as error:
        log.warning("an agent's answer could not be delivered (%s)", error.strerror)
