"""How much memory and disk a job holds, seen from its parent."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from worker.runtime.jail import libc
from worker.runtime.untrusted_dir import open_folder

_OWN_PAGES: Final = re.compile(r"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB$", re.MULTILINE)
"""Pages that only the job holds. Mapped files (libraries, weights) are left out: the kernel can drop those at will."""

MAX_ENTRIES: Final = 20_000
"""Files and folders that one job may make: ext4 took 3 ms to remove an empty folder, whatever it weighs."""
MOST_WALKS: Final = 3
BLOCK_BYTES: Final = 512
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_MAPPED: Final = re.compile(
    r"^([0-9a-f]+-[0-9a-f]+) \S+ ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) .* \(deleted\)$", re.MULTILINE
)
"""A line of /proc/PID/maps for a file without a name: range, offset, device, inode."""


def memory_bytes(pid: int, *, alone: bool) -> int:
    """Memory of `pid` and, unless it is known to be `alone`, of what it started. 0 when it is gone."""
    return sum(_own_bytes(member) for member in _family(pid, alone=alone))


def _family(pid: int, *, alone: bool) -> list[int]:
    if alone:
        return [pid]
    try:
        return [pid, *(member.pid for member in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


def _own_bytes(pid: int) -> int:
    try:
        if libc.LINUX:
            status = Path(f"/proc/{pid}/status").read_text()
            return 1024 * sum(int(kilobytes) for kilobytes in _OWN_PAGES.findall(status))
        return int(psutil.Process(pid).memory_info().rss)
    except (OSError, psutil.Error):
        return 0


@dataclass(frozen=True)
class Usage:
    """Space taken on disk, and the number of files and folders that take it."""

    bytes: int
    entries: int
    hidden: str = ""
    """What there is that cannot be looked into, if anything: nobody knows how much it holds."""


def disk(directory: Path, most: int = MAX_ENTRIES) -> Usage:
    """What lies below `directory`. Follows no links; stops counting at `most` files and folders.

    A folder that is moved while it is counted may be missed, so the largest of `MOST_WALKS` counts.
    """
    largest = Usage(0, 0)
    for _ in range(MOST_WALKS):
        walk = _Walk(most)
        usage = walk.count(directory)
        if usage.hidden or usage.entries > most:
            return usage
        largest = max(largest, usage, key=lambda seen: seen.bytes)
        if not walk.has_missed:
            return largest
    return replace(largest, hidden="folders that move while they are counted") if walk.is_cut_short else largest


class _Walk:
    """One look at a tree, with one descriptor that goes down by name and up by `..`.

    A path may be longer than the kernel takes, and lead elsewhere at the next moment. Where `..` is not where the walk
    came from, a folder was moved.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes, self._entries, self._hidden = 0, 0, ""
        self.has_missed, self.is_cut_short = False, False
        self._here = -1
        self._folders: list[tuple[os.stat_result, list[str]]] = []
        """From the top to where the walk is: the folder, and the names of those in it that are yet to be entered."""

    def count(self, directory: Path) -> Usage:
        self._enter(directory)
        try:
            while self._folders and not self._hidden and self._entries <= self._most:
                if names := self._folders[-1][1]:
                    self._enter(names.pop())
                else:
                    self._leave()
        finally:
            if self._here >= 0:
                os.close(self._here)
        return Usage(self._bytes, self._entries, self._hidden)

    def _enter(self, name: Path | str) -> None:
        try:
            there = open_folder(name, self._here if self._folders else None)
        except OSError as error:
            self._miss(error)
            return
        self._move(there)
        names: list[str] = []
        self._folders.append((os.fstat(there), names))
        try:
            names.extend(self._count_entries())
        except OSError as error:
            self._miss(error)

    def _leave(self) -> None:
        self._folders.pop()
        if not self._folders:
            return
        try:
            self._move(open_folder("..", self._here))
        except OSError as error:
            self._miss(error)
            self._folders.clear()
            return
        if not os.path.samestat(os.fstat(self._here), self._folders[-1][0]):
            self.has_missed = self.is_cut_short = True
            self._folders.clear()

    def _move(self, there: int) -> None:
        if self._here >= 0:
            os.close(self._here)
        self._here = there

    def _miss(self, error: OSError) -> None:
        if error.errno in _GONE:
            self.has_missed = True
        else:
            self._hidden = f"a folder that cannot be read ({os.strerror(error.errno or 0)})"

    def _count_entries(self) -> Iterator[str]:
        """Count what lies in the folder; the names of the folders in it."""
        with os.scandir(self._here) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > self._most:
                    return
                if entry.is_dir(follow_symlinks=False):
                    yield entry.name
                    continue
                with contextlib.suppress(FileNotFoundError):
                    self._bytes += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES


def nameless_bytes(directory: Path, pid: int, *, alone: bool) -> int:
    """Space of files without a name on `directory`'s disk that `pid`, or what it started, holds open or mapped.

    Shared memory is such a file too, on a device of its own: it counts as memory.
    """
    device = directory.stat().st_dev
    held: dict[tuple[int, int], int] = {}
    for member in _family(pid, alone=alone) if libc.LINUX else ():
        for status in (*_opened(member), *_mapped(member)):
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and status.st_dev == device:
                held[status.st_dev, status.st_ino] = status.st_blocks * BLOCK_BYTES
    return sum(held.values())


def _opened(pid: int) -> Iterator[os.stat_result]:
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # closed at this moment
                yield descriptor.stat()


def _mapped(pid: int) -> Iterator[os.stat_result]:
    """Only root may look at them this way (proc(5), /proc/pid/map_files); for others there is `free_bytes`."""
    with contextlib.suppress(OSError):
        for mapping in _MAPPED.finditer(Path(f"/proc/{pid}/maps").read_text(errors="replace")):
            with contextlib.suppress(OSError):
                yield os.stat(f"/proc/{pid}/map_files/{_unpadded(mapping[1])}")  # noqa: PTH116  # no path of ours


def _unpadded(place: str) -> str:
    return "-".join(f"{int(end, 16):x}" for end in place.split("-"))


def free_bytes(directory: Path) -> int:
    """What is left to ordinary users of the file system that `directory` is on."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
