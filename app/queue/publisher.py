"""Celery's configuration, shared by those who send and those who work, and the sender."""

from uuid import UUID

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from app.errors import PareError
from app.settings import Settings

TASK = "pare.run"
QUEUES = ("cpu", "cuda")
SOCKET_SECONDS = 30
"""redis-py's default of five seconds would break the consumer's blocking reads."""
MEMORY_POLL_SECONDS = 0.02


class QueueUnavailable(PareError):
    """The broker does not answer."""

    code, status = "queue.unavailable", 503
    remedy = "Check PARE_BROKER_URL and the broker; queued jobs are published as soon as it is back."


def make_celery(settings: Settings) -> Celery:
    """Configure Celery: JSON only, acknowledged early, one message at a time; a lost message is sent again."""
    app = Celery("pare", broker=settings.broker, set_as_current=False)
    options: dict[str, object] = {"polling_interval": MEMORY_POLL_SECONDS}
    if not settings.embedded:
        options = {"socket_timeout": SOCKET_SECONDS, "socket_connect_timeout": 5, "socket_keepalive": True}
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=not settings.embedded,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=options,
        task_queues=[Queue(name, routing_key=name) for name in QUEUES],  # type: ignore[no-untyped-call]
        task_default_queue="cpu",
        task_create_missing_queues=False,
    )
    return app


class Publisher:
    """Sends job ids to their queues."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery

    def publish(self, job: UUID, queue: str) -> None:
        """Send one message; raises `QueueUnavailable` at once instead of waiting for a broker that is away."""
        try:
            self._celery.send_task(TASK, args=[job.hex], queue=queue, retry=False, ignore_result=True)
        except (OperationalError, OSError) as error:
            raise QueueUnavailable("The broker does not take messages.") from error

    def check(self) -> None:
        """Raise `QueueUnavailable` unless the broker answers."""
        try:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
        except (OperationalError, OSError) as error:
            raise QueueUnavailable("The broker does not answer.") from error
