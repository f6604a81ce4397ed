"""Files in a folder that a job's process owns: taken and put without following a link that it may have made."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from worker.runtime.errors import Crashed

CHUNK_BYTES: Final = 1 << 20


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of the folder itself. Raises OSError where it has become something else."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield place
    finally:
        os.close(place)


def copy_out(folder: Path, name: str, target: Path, *, most: int) -> Path:
    """Copy a plain file of at most `most` bytes to `target`. Raises `Crashed`."""
    try:
        with opened(folder) as place:
            # A pipe in its place must not make us wait for a writer.
            source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
            with open(source, "rb") as content, target.open("wb") as copy:  # noqa: PTH123  # a descriptor
                found = os.fstat(source)
                if not stat.S_ISREG(found.st_mode) or found.st_size > most:
                    raise Crashed(f"The job's process handed over {name}, which is no plain file, or too large.")
                left = most
                while left > 0 and (chunk := content.read(min(CHUNK_BYTES, left))):
                    copy.write(chunk)
                    left -= len(chunk)
    except OSError as error:
        raise Crashed(f"The job's process did not hand over {name} ({error.strerror}).") from error
    return target


def put(folder: Path, name: str, content: bytes) -> None:
    """Write a file that is whole when it appears. Raises OSError."""
    with opened(folder) as place:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        part = os.open(f"{name}.part", flags, 0o600, dir_fd=place)
        with open(part, "wb") as file:  # noqa: PTH123  # a descriptor
            file.write(content)
        os.rename(f"{name}.part", name, src_dir_fd=place, dst_dir_fd=place)


def move_in(source: Path, folder: Path, name: str) -> None:
    """Move a file of ours, on the same disk, into the folder. Raises OSError."""
    with opened(folder) as place:
        os.rename(source, name, dst_dir_fd=place)
