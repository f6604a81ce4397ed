"""The sweep: takes jobs from workers that are gone, and removes what nobody refers to."""

import logging
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice

from sqlalchemy.orm import Session

from app.db import agent_tasks, checkpoints, jobs, references, uploads, workers
from app.db.database import Database
from app.services.agent_errors import AgentLost
from app.services.errors import WorkerLost
from app.services.periodic import PeriodicTask
from app.settings import SPOOL_PREFIX, Settings
from app.spec.failure import Failure
from app.storage import Store

log = logging.getLogger(__name__)

RECOVERY = "sweep"
CLEANUP = "tidy"
CLEANUP_EVERY_SECONDS = 3600.0
KEYS_PER_QUERY = 500
ORPHAN_AGE = timedelta(days=1)
"""An object without a row is kept this long: its attempt may be about to commit."""


class Sweeper(PeriodicTask):
    """Sweeps every `sweep_s`; of many processes one at a time."""

    def __init__(self, database: Database, store: Store, settings: Settings) -> None:
        super().__init__("sweeper", settings.sweep_s)
        self._database = database
        self._store = store
        self._settings = settings

    def run_once(self) -> None:
        self._recover_if_due()
        if self._claim_run(CLEANUP, CLEANUP_EVERY_SECONDS):
            with self._database.write() as session:
                checkpoints.drop_old(session)
            self.remove_orphans()
            self.remove_spooled()

    def _recover_if_due(self) -> None:
        # In one transaction: a recovery that fails has not run, and the sweep's age tells.
        with self._database.write() as session:
            if workers.claim_run(session, RECOVERY, every_s=self._settings.sweep_s / 2):
                self._recover(session)

    def _recover(self, session: Session) -> None:
        """Requeue, fail or cancel the jobs whose lease has run out, and the tasks of agents."""
        for job in jobs.expired(session):
            log.warning("job_%s: worker %s was lost in attempt %d", job.id.hex, job.worker, job.attempt)
            error = Failure.of(WorkerLost(f"The worker stopped answering in attempt {job.attempt}."))
            jobs.give_up_on(session, job, backoff_s=self._settings.retry_backoff_s, error=error.model_dump())
        for task in agent_tasks.expired(session):
            log.warning("tsk_%s: its agent was lost in attempt %d", task.id.hex, task.attempt)
            lost = Failure.of(AgentLost(f"The device stopped answering in attempt {task.attempt}."))
            agent_tasks.lose(session, task, error=lost.model_dump())
        agent_tasks.drop_unwanted(session)
        workers.forget_old(session)

    def remove_orphans(self, age: timedelta = ORPHAN_AGE) -> int:
        """Delete objects that no row refers to and uploads that were never completed; returns how many."""
        removed = 0
        with self._database.write() as session:
            overdue = uploads.overdue(session)
            for upload in overdue:
                uploads.move(session, upload.id, upload.state, "aborted")
        for upload in overdue:
            self._store.abort(upload.key, upload.token)
        before = datetime.now(UTC) - age
        for key, token in self._store.stale_uploads(before):
            if not self._is_open(key):
                self._store.abort(key, token)
                removed += 1
        old = (stored.key for stored in self._store.list("") if stored.modified < before)
        while batch := list(islice(old, KEYS_PER_QUERY)):
            with self._database.read() as session:
                orphans = references.unreferred(session, batch)
            for key in orphans:
                self._store.delete(key)
            removed += len(orphans)
        return removed + len(overdue)

    def remove_spooled(self, age: timedelta = ORPHAN_AGE) -> int:
        """Delete the uploads that a killed process of this machine had on its disk; returns how many."""
        before, removed = time.time() - age.total_seconds(), 0
        for folder in self._settings.scratch.glob(f"{SPOOL_PREFIX}*"):
            with suppress(FileNotFoundError):  # it ends at this moment, in good order
                if max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < before:
                    shutil.rmtree(folder)
                    removed += 1
        return removed

    def _claim_run(self, task: str, every_s: float) -> bool:
        with self._database.write() as session:
            return workers.claim_run(session, task, every_s=every_s)

    def _is_open(self, key: str) -> bool:
        with self._database.read() as session:
            return uploads.is_open(session, key)
