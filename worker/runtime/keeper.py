"""Brings an attempt's checkpoints into the store while it works, so that the next attempt goes on from there."""

import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app.db import checkpoints
from app.db.database import Database
from app.db.tables import Checkpoint
from app.errors import PareError
from app.ids import new_id
from app.storage import Store
from worker.engine.checkpoints import FOLDER
from worker.runtime.patience import SERVERS_AWAY
from worker.runtime.publish import sha256_of

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""At least; after a longer round of uploads, as long as that took: versions written meanwhile are passed over."""
LOOK_SECONDS = 0.1


class Keeper(threading.Thread):
    """Runs beside one attempt. It stores the newest version of each file it is told of, one file at a time.

    The child is hostile: a file is given a second name where the child cannot reach it, and must then be a plain
    file; a child that goes on writing to it gets a version whose digest does not fit, which the store refuses.
    """

    def __init__(
        self, database: Database, store: Store, job: UUID, attempt: int, directory: Path, *, max_bytes: int
    ) -> None:  # fmt: skip
        """Keep the checkpoints in the job's `directory`, at most `max_bytes` of them."""
        super().__init__(name=f"keeper-{job.hex[-8:]}", daemon=True)
        self._database, self._store = database, store
        self._job, self._attempt = job, attempt
        self._directory, self._max_bytes = directory, max_bytes
        self._lock = threading.Lock()
        self._waiting: dict[str, None] = {}
        self._something = threading.Event()
        self._last_round = threading.Event()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        # Beside the job's directory: on the same disk, outside of what the child may touch.
        self._aside = TemporaryDirectory(dir=self._directory.parent, prefix="kept-", ignore_cleanup_errors=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give up what is not stored yet; an upload under way ends by itself and is refused by the row."""
        self._over.set()
        self._something.set()
        self._aside.cleanup()

    def on_checkpoint(self, name: str) -> None:
        """Hear that this file has a new version, or is gone."""
        with self._lock:
            self._waiting[name] = None
        self._something.set()

    def finish(self, seconds: float, should_stop: Callable[[], object]) -> None:
        """The child is over: store what is waiting, for at most `seconds`, or until `should_stop` gives a reason."""
        self._last_round.set()
        self._something.set()
        deadline = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < deadline and not should_stop():
            self.join(LOOK_SECONDS)
        self._over.set()

    def run(self) -> None:
        while not self._over.is_set():
            self._something.wait()
            self._something.clear()
            last, started = self._last_round.is_set(), time.monotonic()
            self._store_waiting()
            if last and not self._waiting:
                return
            pause = self._over if last else self._last_round
            pause.wait(max(PAUSE_SECONDS, time.monotonic() - started))

    def _store_waiting(self) -> None:
        with self._lock:
            names, self._waiting = list(self._waiting), {}
        for name in names:
            if self._over.is_set():
                return
            try:
                self._keep(name)
            except SERVERS_AWAY as error:
                log.warning("job_%s: a checkpoint waits (%s)", self._job.hex, type(error).__name__)
                self.on_checkpoint(name)
            except (OSError, PareError, SQLAlchemyError) as error:
                # What cannot be kept costs the next attempt time; it must not cost this one its life.
                log.warning("job_%s: a checkpoint was not kept (%s)", self._job.hex, type(error).__name__)

    def _keep(self, name: str) -> None:
        held = Path(self._aside.name, "held")
        held.unlink(missing_ok=True)
        if not self._set_aside(name, held):
            self._forget(name)
            return
        size = _plain_size(held)
        if size is None or size + self._bytes_of_others(name) > self._max_bytes:
            log.warning("job_%s: a checkpoint was refused: no plain file, or too large", self._job.hex)
            return
        key = f"checkpoints/{self._job.hex}/{self._attempt}/{new_id().hex}"
        digest = sha256_of(held)
        self._store.put(key, held, sha256=digest, media_type=checkpoints.OCTETS)
        self._record(Checkpoint(job_id=self._job, name=name, attempt=self._attempt, sha256=digest, bytes=size, key=key))

    def _bytes_of_others(self, name: str) -> int:
        with self._database.read() as session:
            return sum(one.bytes for one in checkpoints.of(session, self._job) if one.name != name)

    def _set_aside(self, name: str, held: Path) -> bool:
        """Give the file a second name; False if it is gone."""
        with contextlib.suppress(FileNotFoundError):
            folder = os.open(self._directory / FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.link(name, held, src_dir_fd=folder, follow_symlinks=False)
                return True
            finally:
                os.close(folder)
        return False

    def _record(self, version: Checkpoint) -> None:
        key = version.key
        with self._database.write() as session:
            ours, replaced = checkpoints.keep(session, version)
        if not ours:
            self._over.set()  # somebody else has the job, or it is being canceled
            replaced = key
        if replaced:
            self._store.delete(replaced)

    def _forget(self, name: str) -> None:
        with self._database.write() as session:
            gone = checkpoints.forget(session, self._job, self._attempt, name)
        if gone:
            self._store.delete(gone)


def _plain_size(held: Path) -> int | None:
    """Bytes of a plain file that has its own name and ours; None for anything else."""
    found = held.lstat()
    return found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 2 else None
