"""Folders that a job's process writes to: all that its parent reads from them and puts into them goes through here.

The process is hostile and may be alive: a name can become a link, a pipe or a folder between two looks. So a folder is
held by a descriptor, names are resolved in it (openat(2)), no link is followed, and a file counts only if it is a plain
one (regular, one name, no larger than allowed) when it is open.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final, Self

CHUNK_BYTES: Final = 1 << 20

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would make us wait for its writer
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPlain(OSError):
    """Something else than a plain file of the allowed size lies where one was expected."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


def open_folder(path: Path | str, parent: int | None = None) -> int:
    """A descriptor of the folder itself, below the folder `parent` is one of. Raises OSError where it is no folder."""
    return os.open(path, _FOLDER, dir_fd=parent)


class UntrustedDir:
    """One such folder, held open. Use it as a context manager; every method raises OSError."""

    def __init__(self, path: Path | str, parent: "UntrustedDir | None" = None) -> None:
        """Open `path`, which is relative to `parent` where that is given."""
        self.fd: int = open_folder(path, None if parent is None else parent.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    @contextlib.contextmanager
    def file(self, name: str, *, max_bytes: int | None = None) -> Iterator[BufferedReader]:
        """A plain file, open for reading. It may still grow: read no more than `max_bytes`. Raises `NotPlain`."""
        with open(os.open(name, _READ, dir_fd=self.fd), "rb") as file:  # noqa: PTH123  # a descriptor
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise NotPlain("not a plain file")
            if max_bytes is not None and status.st_size > max_bytes:
                raise NotPlain("too large")
            yield file

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """The content of a plain file. Raises `NotPlain`."""
        with self.file(name, max_bytes=max_bytes) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise NotPlain("too large")
        return content

    def sha256(self, name: str) -> str:
        """The digest of a plain file. Raises `NotPlain`."""
        with self.file(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def copy_out(self, name: str, target: Path, *, max_bytes: int) -> None:
        """Copy a plain file to `target`, which is ours. Raises `NotPlain`."""
        with self.file(name, max_bytes=max_bytes) as file, target.open("wb") as copy:
            while chunk := file.read(CHUNK_BYTES):
                if copy.tell() + len(chunk) > max_bytes:
                    raise NotPlain("too large")
                copy.write(chunk)

    def link_out(self, name: str, target: Path) -> None:
        """Give a plain file a second name, `target`, which is ours and on the same disk. Raises `NotPlain`.

        It costs nothing whatever the file's size, but the process may go on writing to it: take its digest.
        """
        os.link(name, target, src_dir_fd=self.fd, follow_symlinks=False)
        status = target.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 2:  # the process's name and ours
            target.unlink()
            raise NotPlain("not a plain file")

    def put(self, name: str, content: bytes) -> None:
        """Write a file that is whole when it appears."""
        part = f"{name}.part"
        with open(os.open(part, _CREATE, 0o600, dir_fd=self.fd), "wb") as file:  # noqa: PTH123  # a descriptor
            file.write(content)
        os.rename(part, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def move_in(self, source: Path, name: str) -> None:
        """Move a file of ours, on the same disk, into the folder."""
        os.rename(source, name, dst_dir_fd=self.fd)
