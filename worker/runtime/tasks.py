"""The one Celery task: a job's id comes in, the row says what to do."""

import logging
from uuid import UUID

from celery import Celery

from app.queue.publisher import TASK
from worker.runtime.runner import Runner

log = logging.getLogger(__name__)


def register(celery: Celery, runner: Runner) -> None:
    """Let a Celery worker run jobs. The message was acknowledged before: whatever happens, the row heals it."""

    def run(job: object) -> None:
        try:
            job_id = UUID(hex=str(job))
        except ValueError:
            log.warning("a message that names no job was dropped")
            return
        runner.run(job_id)

    celery.task(name=TASK, ignore_result=True)(run)
