"""One job on this worker: claim, prepare, run in the jailed child, publish. The row decides at every step."""

import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from app.db import jobs
from app.db.database import Database
from app.db.tables import Job
from app.errors import PareError
from app.services.limits import missed_limits
from app.settings import Settings
from app.spec.work import Failure, WorkOrder, WorkResult
from app.storage import Store
from worker.runtime.errors import Crashed, Killed, OutOfMemory, SandboxTooWeak
from worker.runtime.prepare import prepare
from worker.runtime.publish import store_artifacts
from worker.runtime.pulse import DRAINING, FENCED, Pulse
from worker.runtime.supervise import Limits, Outcome, Stopped, Workshop

log = logging.getLogger(__name__)

TRIED_AGAIN = frozenset({Crashed.code, Killed.code, OutOfMemory.code})
"""Ends that may be the machine's fault; each counts as a lost attempt. A refused model or a time-out is final."""

NEEDS_FULL_JAIL = frozenset({"pt2"})
"""Formats whose loader has run code from hostile files before; admission refuses what is known, the jail the rest."""


class Runner:
    """Runs claimed jobs, one call at a time per thread; `is_draining` asks whether the worker is shutting down."""

    def __init__(
        self, database: Database, store: Store, workshop: Workshop, settings: Settings, *,
        name: str, is_draining: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._database = database
        self._store = store
        self._workshop = workshop
        self._settings = settings
        self._name = name
        self._is_draining = is_draining

    def run(self, job_id: UUID) -> None:
        """Work on a job if it is still there to be taken; a message that comes twice finds nothing."""
        if self._is_draining():
            return  # the row is still queued: the dispatcher sends it again
        with self._database.write() as session:
            job = jobs.claim(
                session, job_id, worker=self._name, queue=self._settings.queue, lease_s=self._settings.lease_s
            )
        if job is None:
            log.info("job_%s is not there to be taken", job_id.hex)
            return
        log.info("job_%s: attempt %d begins", job_id.hex, job.attempt)
        self._settings.scratch.mkdir(parents=True, exist_ok=True)
        with (
            TemporaryDirectory(dir=self._settings.scratch, prefix="job-", ignore_cleanup_errors=True) as folder,
            Pulse(self._database, self._settings, job.id, job.attempt) as pulse,
        ):
            self._settle(job, Path(folder), pulse, self._attempt(job, Path(folder), pulse))

    def _attempt(self, job: Job, directory: Path, pulse: Pulse) -> Outcome:
        try:
            order = prepare(self._database, self._store, self._settings, job, directory)
            self._require_safe(order)
            return self._workshop.run(
                directory,
                Limits(
                    wall_s=order.spec.timeout_s,
                    memory_bytes=self._settings.child_memory_bytes,
                    file_bytes=self._settings.child_disk_bytes,
                ),
                on_progress=pulse.on_progress,
                on_log=pulse.on_log,
                should_stop=lambda: pulse.stop_reason() or (DRAINING if self._is_draining() else None),
            )
        except PareError as error:
            return Failure(code=error.code, detail=error.detail, remedy=error.remedy)

    def _require_safe(self, order: WorkOrder) -> None:
        level = self._workshop.jail_level
        if order.model.info.format in NEEDS_FULL_JAIL and not level.complete:
            missing = ", ".join((*level.missing, *level.escapes))
            raise SandboxTooWeak(f"A {order.model.info.format} model is not loaded here; missing: {missing}.")

    def _settle(self, job: Job, directory: Path, pulse: Pulse, outcome: Outcome) -> None:
        pulse.flush()
        match outcome:
            case Stopped(reason=reason):
                self._stopped(job, reason)
            case Failure():
                self._failed(job, outcome)
            case WorkResult():
                self._delivered(job, directory, outcome)

    def _stopped(self, job: Job, reason: str) -> None:
        log.info("job_%s: attempt %d stopped, %s", job.id.hex, job.attempt, reason)
        if reason == FENCED:
            return  # somebody else has the job: nothing may be written
        with self._database.write() as session:
            if reason == DRAINING:
                jobs.hand_back(session, job.id, job.attempt)
            # A cancel may have come while the worker drained; it wins either way.
            jobs.cancel_finished(session, job.id, job.attempt)

    def _failed(self, job: Job, failure: Failure) -> None:
        log.info("job_%s: attempt %d failed, %s: %s", job.id.hex, job.attempt, failure.code, failure.detail)
        error = failure.model_dump(mode="json")
        with self._database.write() as session:
            if failure.code in TRIED_AGAIN:
                done = jobs.lose(session, job, backoff_s=self._settings.retry_backoff_s, error=error)
            else:
                done = jobs.fail(session, job.id, job.attempt, error=error)
            if not done:
                jobs.cancel_finished(session, job.id, job.attempt)

    def _delivered(self, job: Job, directory: Path, result: WorkResult) -> None:
        try:
            artifacts = store_artifacts(self._store, job, directory, result)
        except PareError as error:
            self._failed(job, Failure(code=error.code, detail=error.detail, remedy=error.remedy))
            return
        report = result.report.model_dump(mode="json")
        missed = missed_limits(result.report)
        with self._database.write() as session:
            if missed is not None:
                why = missed.model_dump(mode="json")
                done = jobs.fail(session, job.id, job.attempt, error=why, report=report, artifacts=artifacts)
            else:
                done = jobs.succeed(session, job.id, job.attempt, report=report, artifacts=artifacts)
            done = done or jobs.cancel_finished(session, job.id, job.attempt)
        log.info("job_%s: attempt %d %s", job.id.hex, job.attempt, "delivered" if done else "was given up on")
