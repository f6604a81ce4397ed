"""A process's own scratch folder. What a killed process left in its own is deleted by the next one that starts."""

import fcntl
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.runtime.delete_tree import delete_tree

log = logging.getLogger(__name__)

PREFIX = "worker-"
JOB_PREFIX = "job-"
LOCK = "lock"


@contextmanager
def own_scratch(parent: Path) -> Iterator[Path]:
    """Make a folder below `parent` that this process holds by a lock while the block lasts, and delete it then.

    The lock ends with its process, however that ends: a folder whose lock can be had belongs to nobody.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{PREFIX}*"):
        _remove_if_left(left)
    folder = parent / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    with _locked_new(folder):
        yield folder
        _remove(folder)


@contextmanager
def job_folder(scratch: Path) -> Iterator[Path]:
    """A job's own folder below `scratch`, deleted with all that the job has left there when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix=JOB_PREFIX, dir=scratch))
    try:
        yield folder
    finally:
        _remove(folder)


@contextmanager
def _locked_new(folder: Path) -> Iterator[None]:
    # Made elsewhere and renamed, so that no other process sees it without its lock.
    draft = folder.with_name(f".{folder.name}")
    draft.mkdir(mode=0o700)
    with (draft / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        draft.rename(folder)
        yield


def _remove_if_left(folder: Path) -> None:
    try:
        with (folder / LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            log.warning("deleting what the killed process of %s left behind", folder.name)
            _remove(folder)
    except OSError:
        return  # its process lives, or another one that has just started deletes it


def _remove(folder: Path) -> None:
    try:
        delete_tree(folder)
        folder.rmdir()
    except OSError:
        log.warning("%s could not be deleted and is left to the next start", folder.name)
