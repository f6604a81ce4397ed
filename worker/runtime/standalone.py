"""`python -m worker`: a Celery worker for one queue of the real broker."""

import logging
import sys
from typing import Any

from celery.signals import setup_logging, worker_shutting_down

from app.db.database import Database
from app.queue import make_celery
from app.settings import Settings
from app.storage import open_store
from worker.runtime.worker_process import worker_process

log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, which drain: the running job is handed back within seconds."""
    celery = make_celery(settings)
    database = Database(settings.database)
    with worker_process(settings, database, open_store(settings), celery) as draining:

        def drain(**_: Any) -> None:
            draining.set()

        worker_shutting_down.connect(drain)
        setup_logging.connect(_leave_logging_alone)
        worker = celery.Worker(
            pool="threads",
            concurrency=1,
            queues=[settings.queue],
            loglevel="WARNING",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        log.info("serving queue %s", settings.queue)
        worker.start()
        if not draining.is_set():
            # Celery gives up on what it cannot read as a message, as if it had been told to stop. It has taken it off
            # the queue, so whoever supervises this process can start it again.
            sys.exit("The worker stopped at something in the queue that is no message.")
    database.close()


def _leave_logging_alone(**_: Any) -> None:
    """Answer Celery, which sets the root logger's level to its own unless somebody says that logging is set up."""
    logging.getLogger("celery").setLevel(logging.WARNING)
