"""`python -m worker embedded`: service, broker and worker in one process, for a laptop."""

import fcntl
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import celery.worker.state
from celery import Celery

from app.api.app import create_app, require_loopback
from app.api.components import Components
from app.api.server import serve as serve_http
from app.db import jobs
from app.settings import Settings
from migrations import upgrade
from worker.runtime.errors import AlreadyRunning
from worker.runtime.worker_process import worker_process

log = logging.getLogger(__name__)

STOP_SECONDS = 15.0
GRACE_SECONDS = 5
"""Open event streams are cut after this."""


class EmbeddedWorker(threading.Thread):
    """A Celery worker on `memory://` in a thread of its own; it runs one job at a time."""

    def __init__(self, app: Celery) -> None:
        super().__init__(name="worker", daemon=True)
        self._app = app

    def run(self) -> None:
        controller = self._app.WorkController(
            pool="solo", concurrency=1, queues=["cpu"], without_heartbeat=True, without_mingle=True, without_gossip=True
        )
        controller.start()

    def stop(self) -> None:
        """Let the consumer's loop end; Celery looks at this flag between messages."""
        celery.worker.state.should_stop = 0
        self.join(STOP_SECONDS)


def serve(settings: Settings) -> None:
    """Bring the database up to date, start the worker, and serve until told to stop."""
    require_loopback(settings)
    with only_one(settings.data_dir):
        _serve(settings)


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold a data directory while the block lasts; raises `AlreadyRunning`.

    The broker is this process's memory: a second service on the same rows would publish to a broker of its own.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AlreadyRunning("Another embedded service uses this data directory.") from error
        yield


def _serve(settings: Settings) -> None:
    upgrade(settings.database)
    components = Components.build(settings)
    with components.database.write() as session:
        jobs.unpublish_all(session)
    with worker_process(settings, components.database, components.store, components.celery) as draining:
        worker = EmbeddedWorker(components.celery)
        worker.start()
        # uvicorn raises the signal that ended it once more when it is done; without this it would end us undrained.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: draining.set())
        log.info("serving http://%s:%d", settings.host, settings.port)
        serve_http(create_app(components), settings, grace_s=GRACE_SECONDS)
        draining.set()
        worker.stop()
