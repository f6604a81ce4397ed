"""Waiting out a server that is away for a moment, so that seconds do not cost hours of work."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from app.storage.errors import StorageUnavailable

T = TypeVar("T")
log = logging.getLogger(__name__)

DATABASE_AWAY: tuple[type[Exception], ...] = (OperationalError, InterfaceError)
SERVERS_AWAY: tuple[type[Exception], ...] = (*DATABASE_AWAY, StorageUnavailable)
STORAGE_AWAY_SECONDS = 120.0
"""A storage server that is restarted or fails over is back by then; the lease is renewed meanwhile."""
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 2.0


def retry(
    away: tuple[type[Exception], ...], act: Callable[[], T], *, seconds: float, should_stop: Callable[[], object]
) -> T:
    """Do `act`, again and again while it raises one of `away`.

    Raises that error when it still does after `seconds`, or once `should_stop` gives a reason.
    """
    deadline, wait = time.monotonic() + seconds, FIRST_WAIT_SECONDS
    while True:
        try:
            return act()
        except away as error:
            if should_stop() or time.monotonic() + wait > deadline:
                raise
            log.warning("%s, trying again for %.0f s", type(error).__name__, deadline - time.monotonic())
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
