"""Sends a task by name. The message carries an id and nothing else; the row is the truth."""

from app.queue.publisher import Publisher, QueueUnavailable, make_celery

__all__ = ["Publisher", "QueueUnavailable", "make_celery"]
