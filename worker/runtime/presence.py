"""Tells everybody that this worker is alive, which queue it serves and on what."""

import logging
import os
import socket
from typing import Any
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError

from app import __version__
from app.db import workers
from app.db.database import Database
from app.services.periodic import PeriodicTask
from app.settings import Settings
from worker.engine.toolchains.environments import Environments
from worker.runtime.fingerprints import fingerprints_of
from worker.runtime.job_sandbox import JobSandbox

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0


def worker_name() -> str:
    """Make a name no other worker has, that tells where to look for it."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"


class Presence(PeriodicTask):
    """Reports every ten seconds; signs off when stopped."""

    def __init__(self, database: Database, settings: Settings, job_sandbox: JobSandbox, name: str) -> None:
        super().__init__("presence", EVERY_SECONDS)
        self._database = database
        self._queue = settings.queue
        self._name = name
        self._environments = Environments(settings.toolchains_dir)
        self._facts: dict[str, Any] = {
            "devices": job_sandbox.devices,
            "threads": settings.threads,
            "sandbox": job_sandbox.jail_level.summary,
            "version": __version__,
        }

    def run_once(self) -> None:
        toolchains = self._environments.names()  # looked for every time: one may be installed while the worker runs
        facts = self._facts | {"toolchains": toolchains, "knowledge": fingerprints_of(self._environments)}
        with self._database.write() as session:
            workers.seen(session, self._name, queue=self._queue, facts=facts)

    def stop(self, timeout_s: float = 10.0) -> None:
        super().stop(timeout_s)
        try:
            with self._database.write() as session:
                workers.gone(session, self._name)
        except SQLAlchemyError:
            log.warning("could not sign off: the database does not answer; in a while this worker counts as gone")
