"""The dispatcher: makes sure that every queued job has a message on its way.

The row is the outbox. Publishing again is harmless, since only one claim succeeds; so a broker that loses
everything delays jobs and loses none.
"""

import logging

from app.db import jobs
from app.db.database import Database
from app.queue import Publisher
from app.services.periodic import PeriodicTask
from app.settings import Settings

log = logging.getLogger(__name__)


class Dispatcher(PeriodicTask):
    """Publishes the queued jobs; woken by each submission, else every `dispatch_s`."""

    def __init__(self, database: Database, publisher: Publisher, settings: Settings) -> None:
        super().__init__("dispatcher", settings.dispatch_s)
        self._database = database
        self._publisher = publisher
        self._republish_s = settings.republish_s

    def run_once(self) -> None:
        with self._database.write() as session:
            due = jobs.publishable(session, republish_s=self._republish_s)
        for position, (job, queue) in enumerate(due):
            try:
                self._publisher.publish(job, queue)
            except BaseException:
                unsent = [late for late, _ in due[position:]]
                with self._database.write() as session:
                    jobs.unpublish(session, unsent)
                raise
            log.info("published job_%s to queue %s", job.hex, queue)
