"""Brings an attempt's checkpoints into the store while it works, so that the next attempt goes on from there."""

import hashlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
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
from worker.runtime.retry import SERVERS_AWAY
from worker.runtime.untrusted_dir import UntrustedDir

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Between rounds at least; after a longer round, as long as that took. Versions written meanwhile are passed over."""
POLL_SECONDS = 0.1


class CheckpointUploader(threading.Thread):
    """Runs beside one attempt and stores, round by round, the newest version of each file that the child names.

    Files may refer to each other (a description to what it describes), so a version is taken when the child names it
    and a round is recorded whole. The child is hostile: each file gets a second name where the child cannot reach it
    and must then be a plain one; what the child goes on writing to loses its digest, and the store refuses it.
    """

    def __init__(
        self, database: Database, store: Store, job: UUID, attempt: int, directory: Path, *, max_bytes: int
    ) -> None:
        """Store what appears in the job's `directory`, at most `max_bytes` together."""
        super().__init__(name=f"uploader-{job.hex[-8:]}", daemon=True)
        self._database, self._store = database, store
        self._job, self._attempt = job, attempt
        self._directory, self._max_bytes = directory, max_bytes
        self._lock = threading.Lock()
        self._waiting: dict[str, Path | None] = {}
        self._refused: set[str] = set()
        self._numbers = itertools.count()
        self._wake = threading.Event()
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
        self._wake.set()
        self._aside.cleanup()

    def on_checkpoint(self, name: str) -> None:
        """Take the file's present version; there is none if the child has deleted it."""
        try:
            version = self._set_aside(name)
        except OSError as error:
            self._refuse(name, error.strerror)
            return
        with self._lock:
            _discard(self._waiting.pop(name, None))  # what was named last goes last: it may describe the others
            if version is not None and _size({**self._waiting, name: version}) > self._max_bytes:
                self._refuse(name, "too large")
                _discard(version)
                return
            self._waiting[name] = version
        self._wake.set()

    def _refuse(self, name: str, reason: str | None) -> None:
        """Say it once for each name: the child may name a file as often as it likes."""
        if name not in self._refused:
            self._refused.add(name)
            log.warning("job_%s: a checkpoint was refused (%s)", self._job.hex, reason)

    def finish(self, seconds: float, should_stop: Callable[[], object]) -> None:
        """The child is over: store what is waiting, for at most `seconds`, or until `should_stop` gives a reason."""
        self._last_round.set()
        self._wake.set()
        deadline = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < deadline and not should_stop():
            self.join(POLL_SECONDS)
        self._over.set()

    def run(self) -> None:
        while not self._over.is_set():
            self._wake.wait()
            self._wake.clear()
            last, started = self._last_round.is_set(), time.monotonic()
            self._store_waiting()
            if last and not self._waiting:
                return
            pause = self._over if last else self._last_round
            pause.wait(max(PAUSE_SECONDS, time.monotonic() - started))

    def _store_waiting(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, {}
        try:
            self._store_all(taken)
        except SERVERS_AWAY as error:
            log.warning("job_%s: checkpoints wait (%s)", self._job.hex, type(error).__name__)
            self._put_back(taken)
        except (OSError, PareError, SQLAlchemyError) as error:
            # What cannot be stored costs the next attempt time; it must not cost this one its life.
            log.warning("job_%s: checkpoints were not stored (%s)", self._job.hex, type(error).__name__)
        else:
            for version in taken.values():
                _discard(version)

    def _put_back(self, taken: Mapping[str, Path | None]) -> None:
        with self._lock:
            for name in taken.keys() & self._waiting.keys():
                _discard(taken[name])
            older = {name: version for name, version in taken.items() if name not in self._waiting}
            self._waiting = older | self._waiting
        self._wake.set()

    def _set_aside(self, name: str) -> Path | None:
        """Give the file a second name that is ours; None where it is gone. Raises OSError unless it is a plain file."""
        version = Path(self._aside.name, str(next(self._numbers)))
        try:
            with UntrustedDir(self._directory / FOLDER) as folder:
                folder.link_out(name, version)
        except FileNotFoundError:
            return None
        return version

    def _store_all(self, taken: Mapping[str, Path | None]) -> None:
        with self._database.read() as session:
            stored = checkpoints.of(session, self._job)
            before = sum(checkpoint.bytes for checkpoint in stored if checkpoint.name not in taken)
        if before + _size(taken) > self._max_bytes:
            log.warning("job_%s: checkpoints were refused: too large together", self._job.hex)
            return
        versions = []
        for name, version in taken.items():
            if self._over.is_set():
                return
            if version is not None:
                versions.append(self._stored(name, version))
        deleted = [name for name, version in taken.items() if version is None]
        with self._database.write() as session:
            replaced = checkpoints.keep(session, self._job, self._attempt, versions, deleted)
        if replaced is None:  # somebody else has the job, or it is being canceled
            self._over.set()
            replaced = [version.key for version in versions]
        for key in replaced:
            self._store.delete(key)

    def _stored(self, name: str, version: Path) -> Checkpoint:
        key = f"checkpoints/{self._job.hex}/{self._attempt}/{new_id().hex}"
        with version.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._store.put(key, version, sha256=digest, media_type=checkpoints.OCTETS)
        size = version.stat().st_size
        return Checkpoint(job_id=self._job, name=name, attempt=self._attempt, sha256=digest, bytes=size, key=key)


def _size(versions: Mapping[str, Path | None]) -> int:
    return sum(version.stat().st_size for version in versions.values() if version is not None)


def _discard(version: Path | None) -> None:
    if version is not None:
        version.unlink(missing_ok=True)
