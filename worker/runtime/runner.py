"""One job on this worker: claim it, and work on it until the row says how it ended."""

import logging
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from app.db import jobs
from app.db.database import Database
from app.settings import Settings
from app.storage import Store
from worker.runtime.attempt import Attempt
from worker.runtime.checkpoint_uploader import CheckpointUploader
from worker.runtime.heartbeat import DRAINING, Heartbeat
from worker.runtime.job_sandbox import JobSandbox
from worker.runtime.scratch import job_folder

log = logging.getLogger(__name__)


class Runner:
    """Runs claimed jobs below `scratch`, one call at a time per thread; `is_draining`: the worker is shutting down."""

    def __init__(
        self,
        database: Database,
        store: Store,
        job_sandbox: JobSandbox,
        settings: Settings,
        *,
        scratch: Path,
        name: str,
        is_draining: Callable[[], bool],
    ) -> None:
        self._database = database
        self._store = store
        self._job_sandbox = job_sandbox
        self._settings = settings
        self._scratch = scratch
        self._name = name
        self._is_draining = is_draining

    def run(self, job_id: UUID) -> None:
        """Work on a job if it is still there to be taken; a message that comes twice finds nothing."""
        if self._is_draining():
            with self._database.write() as session:
                jobs.unpublish(session, [job_id])  # this was its message: another one is sent at once
            return
        with self._database.write() as session:
            job = jobs.claim(
                session, job_id, worker=self._name, queue=self._settings.queue, lease_s=self._settings.lease_s
            )
        if job is None:
            log.info("job_%s cannot be claimed", job_id.hex)
            return
        log.info("job_%s: attempt %d begins", job_id.hex, job.attempt)
        with (
            job_folder(self._scratch) as folder,
            Heartbeat(self._database, self._settings, job.id, job.attempt) as heartbeat,
            CheckpointUploader(
                self._database,
                self._store,
                job.id,
                job.attempt,
                folder,
                max_bytes=self._settings.child_disk_bytes,
            ) as uploader,
        ):

            def should_stop() -> str | None:
                return heartbeat.stop_reason() or (DRAINING if self._is_draining() else None)

            attempt = Attempt(
                self._database, self._store, self._settings, job, folder, heartbeat, uploader, should_stop
            )
            attempt.run(self._job_sandbox)
