"""One attempt at a claimed job: prepare, run in the jailed child, publish, settle. The row decides at every step.

A database or storage that is away for a moment is waited for; one that stays away costs the attempt, not the job.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from app.db import jobs
from app.db.database import Database
from app.db.tables import Artifact, Job
from app.errors import PareError
from app.services.limits import shortfall
from app.settings import Settings
from app.spec.failure import Failure
from app.spec.work import WorkOrder, WorkResult
from app.storage import Store
from app.storage.errors import StorageUnavailable
from worker.runtime.agent_proxy import AgentProxy
from worker.runtime.checkpoint_uploader import CheckpointUploader
from worker.runtime.errors import Crashed, Killed, NotStarted, OutOfMemory, SandboxTooWeak
from worker.runtime.heartbeat import CANCELED, DRAINING, FENCED, Heartbeat
from worker.runtime.job_kinds import JOB_KINDS, Result
from worker.runtime.job_sandbox import JobSandbox, Limits, Listeners, Outcome, Stopped
from worker.runtime.prepare import Order
from worker.runtime.publish import store_artifacts
from worker.runtime.report_checks import require_own_report
from worker.runtime.retry import DATABASE_AWAY, SERVERS_AWAY, STORAGE_AWAY_SECONDS, retry

T = TypeVar("T")
log = logging.getLogger(__name__)

TRIED_AGAIN = frozenset({Crashed.code, Killed.code, NotStarted.code, OutOfMemory.code, StorageUnavailable.code})
"""Ends that may be the machine's fault; each counts as a lost attempt. A refused model or a time-out is final."""

NEEDS_FULL_JAIL = frozenset({"keras", "pt2"})
"""Formats whose loader has run code from hostile files before; admission refuses what is known, the jail the rest."""

LAST_UPLOAD_SECONDS = 120.0
"""How long the end of a failed attempt waits for its newest checkpoint to be stored."""
DRAINING_UPLOAD_SECONDS = 8.0
"""The same where the worker is shutting down: whoever stops it waits some ten seconds."""


@dataclass(frozen=True)
class Stored:
    """What an attempt made: its artifacts are in the store, and not visible yet."""

    result: Result
    artifacts: list[Artifact]


@dataclass(frozen=True)
class Attempt:
    """One attempt, in a directory of its own. `should_stop` says why it must end (canceled, fenced, draining)."""

    database: Database
    store: Store
    settings: Settings
    job: Job
    directory: Path
    heartbeat: Heartbeat
    uploader: CheckpointUploader
    should_stop: Callable[[], str | None]

    def run(self, job_sandbox: JobSandbox) -> None:
        """Do the work and record how it ended, unless somebody else has the job by then."""
        match self._outcome(job_sandbox):
            case Stopped(reason=reason):
                self._record_stop(reason)
            case Failure() as failure:
                self._record_failure(failure)
            case Stored() as stored:
                try:
                    self._record_result(stored)
                except DATABASE_AWAY:
                    raise  # nothing can be recorded: the lease runs out
                except Exception:  # the database takes no such value, say: the row must hear of it all the same
                    log.exception("job_%s: the result could not be recorded", self.job.id.hex)
                    self._record_failure(Failure.of(Crashed("The job's result could not be recorded.")))

    def _outcome(self, job_sandbox: JobSandbox) -> Stored | Failure | Stopped:
        try:
            outcome = self._run_child(job_sandbox)
            self.uploader.finish(_upload_seconds(outcome), self._is_given_up)
            self.heartbeat.flush()
            if isinstance(outcome, Failure | Stopped):
                return outcome
            return Stored(outcome, self._retry(lambda: self._store(outcome)))
        except PareError as error:
            failure = Failure.of(error)
        except Exception:  # the row must hear of any fault of ours, or the job waits for its lease to run out
            log.exception("job_%s: attempt %d failed outside the child", self.job.id.hex, self.job.attempt)
            failure = Failure.of(Crashed("The worker itself failed."))
        reason = self.should_stop()
        return Stopped(reason) if reason else failure

    def _run_child(self, job_sandbox: JobSandbox) -> Outcome:
        order = self._retry(self._prepare)
        require_safe(order, job_sandbox)
        limits = Limits(
            wall_s=JOB_KINDS[self.job.kind].timeout_s(order),
            memory_bytes=self.settings.child_memory_bytes,
            file_bytes=self.settings.child_disk_bytes,
        )
        with AgentProxy(
            self.database, self.store, self.settings, self.job, self.directory, self.should_stop
        ) as agent_proxy:
            listeners = Listeners(
                self.heartbeat.on_progress,
                self.heartbeat.on_log,
                self.uploader.on_checkpoint,
                self.should_stop,
                on_agent=agent_proxy.ask,
            )
            outcome = job_sandbox.run(self.directory, limits, listeners, kind=self.job.kind)
        if isinstance(outcome, WorkResult) and isinstance(order, WorkOrder):
            require_own_report(outcome.report, order)
        return outcome

    def _prepare(self) -> Order:
        prepare = JOB_KINDS[self.job.kind].prepare
        order = prepare(self.database, self.store, self.settings, self.job, self.directory)
        (self.directory / "order.json").write_text(order.model_dump_json())
        return order

    def _is_given_up(self) -> bool:
        return self.heartbeat.stop_reason() in {CANCELED, FENCED}

    def _store(self, result: Result) -> list[Artifact]:
        if isinstance(result, WorkResult):
            return store_artifacts(self.store, self.job, self.directory, result)
        return []

    def _retry(self, act: Callable[[], T]) -> T:
        return retry(SERVERS_AWAY, act, seconds=STORAGE_AWAY_SECONDS, should_stop=self.should_stop)

    def _record(self, act: Callable[[Session], T]) -> T:
        """Do `act` in a transaction of its own, again if the database went away; a repeated one changes nothing."""

        def once() -> T:
            with self.database.write() as session:
                return act(session)

        def is_fenced() -> bool:
            return self.heartbeat.stop_reason() == FENCED

        return retry(DATABASE_AWAY, once, seconds=self.settings.lease_s, should_stop=is_fenced)

    def _record_stop(self, reason: str) -> None:
        log.info("job_%s: attempt %d stopped, %s", self.job.id.hex, self.job.attempt, reason)
        if reason == FENCED:
            return  # somebody else has the job: nothing may be written

        def give_up(session: Session) -> None:
            if reason == DRAINING:
                jobs.hand_back(session, self.job.id, self.job.attempt)
            # A cancel may have come while the worker drained; it wins either way.
            jobs.cancel_finished(session, self.job.id, self.job.attempt)

        self._record(give_up)

    def _record_failure(self, failure: Failure) -> None:
        job = self.job
        log.info("job_%s: attempt %d failed, %s: %s", job.id.hex, job.attempt, failure.code, failure.detail)
        error = failure.model_dump(mode="json")

        def fail(session: Session) -> None:
            if failure.code in TRIED_AGAIN:
                done = jobs.lose(session, job, backoff_s=self.settings.retry_backoff_s, error=error)
            else:
                done = jobs.fail(session, job.id, job.attempt, error=error)
            if not done:
                jobs.cancel_finished(session, job.id, job.attempt)

        self._record(fail)

    def _record_result(self, stored: Stored) -> None:
        job, result = self.job, stored.result
        report = result.report if isinstance(result, WorkResult) else result
        columns: dict[str, Any] = {"report": report.model_dump(mode="json"), "artifacts": stored.artifacts}
        missed = shortfall(result.report) if isinstance(result, WorkResult) else None

        def record(session: Session) -> bool:
            if missed is not None:
                done = jobs.fail(session, job.id, job.attempt, error=missed.model_dump(mode="json"), **columns)
            else:
                done = jobs.succeed(session, job.id, job.attempt, **columns)
            if not done:
                jobs.cancel_finished(session, job.id, job.attempt)
            return done

        done = self._record(record)
        log.info("job_%s: attempt %d %s", job.id.hex, job.attempt, "delivered" if done else "was given up on")


def _upload_seconds(outcome: Outcome) -> float:
    """How long the checkpoints of an attempt that ended like this are worth waiting for."""
    match outcome:
        case Stopped(reason=reason):
            return DRAINING_UPLOAD_SECONDS if reason == DRAINING else 0.0
        case Failure():
            return LAST_UPLOAD_SECONDS
        case WorkResult(report=report) if shortfall(report) is not None:
            return LAST_UPLOAD_SECONDS
        case _:
            return 0.0


def require_safe(order: Order, job_sandbox: JobSandbox) -> None:
    """Raise `SandboxTooWeak` where a model's loader needs a jail without gaps and this worker's has some."""
    level = job_sandbox.jail_level
    teachers = order.teachers.values() if isinstance(order, WorkOrder) else ()
    formats = {model.info.format for model in (order.model, *teachers)}
    if not level.complete and (risky := sorted(formats & NEEDS_FULL_JAIL)):
        missing = ", ".join((*level.missing, *level.escapes))
        raise SandboxTooWeak(f"A {risky[0]} model is not loaded here; missing: {missing}.")
