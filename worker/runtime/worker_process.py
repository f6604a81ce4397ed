"""A worker process: the sandbox where jobs run, the runner, and the thread that says it is alive."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from app.db.database import Database
from app.settings import Settings
from app.storage import Store
from worker.engine.toolchains.environments import Environments
from worker.runtime.job_sandbox import JobSandbox
from worker.runtime.presence import Presence, worker_name
from worker.runtime.runner import Runner
from worker.runtime.scratch import own_scratch
from worker.runtime.tasks import register


@contextmanager
def worker_process(settings: Settings, database: Database, store: Store, celery: Celery) -> Iterator[threading.Event]:
    """Make `celery` able to run jobs while the block lasts.

    Yields the drain switch: once set, no job is taken any more and the running one goes back to the queue,
    uncounted. Leaving the block sets it. Raises `SandboxUnavailable` if a required layer of the jail is missing.
    """
    draining = threading.Event()
    with (
        own_scratch(settings.scratch) as scratch,
        JobSandbox(
            scratch / "job_sandbox",
            sandbox=settings.sandbox,
            threads=settings.threads,
            device=settings.queue,
            environments=Environments(settings.toolchains_dir),
        ) as job_sandbox,
    ):
        name = worker_name()
        presence = Presence(database, settings, job_sandbox, name)
        presence.run_once()
        presence.start()
        runner = Runner(database, store, job_sandbox, settings, scratch=scratch, name=name, is_draining=draining.is_set)
        register(celery, runner)
        try:
            yield draining
        finally:
            draining.set()
            presence.stop()
