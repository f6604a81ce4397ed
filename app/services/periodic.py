"""Background tasks of a service process: threads that work when woken or when their period is over."""

import logging
import threading
import time

from sqlalchemy.exc import InterfaceError, OperationalError

from app.errors import PareError

log = logging.getLogger(__name__)


class PeriodicTask(threading.Thread):
    """Calls `run_once` again and again until stopped; a failed run is logged and tried again after the period."""

    def __init__(self, name: str, every_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self._every_s = every_s
        self._wake = threading.Event()
        self._stop_asked = threading.Event()

    def run_once(self) -> None:
        """What the subclass does in a period."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does")

    def wake(self) -> None:
        """Start the next run now."""
        self._wake.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ask for the end and wait for the present run."""
        self._stop_asked.set()
        self._wake.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        while not self._stop_asked.is_set():
            started = time.monotonic()
            try:
                self.run_once()
            except PareError as error:
                log.warning("%s: %s", self.name, error.detail)
            except (InterfaceError, OperationalError) as error:
                log.warning("%s: the database failed (%s); tried again", self.name, type(error.orig).__name__)
            except Exception:  # the task must outlive any fault of the database, broker or storage
                log.exception("%s failed and is tried again", self.name)
            self._wake.wait(max(0.0, self._every_s - (time.monotonic() - started)))
            self._wake.clear()
