"""How much memory and disk a job holds, seen from its parent."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from worker.runtime.jail import libc

_OWN_PAGES: Final = re.compile(r"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB$", re.MULTILINE)
"""Pages that only the job holds. Mapped files (libraries, weights) are left out: the kernel can drop those at will."""

MAX_ENTRIES: Final = 20_000
"""Files and folders that one job may make: ext4 took 3 ms to remove an empty folder, whatever it weighs."""


def memory_bytes(pid: int, *, alone: bool) -> int:
    """Memory of `pid` and, unless it is known to be `alone`, of what it started. 0 when it is gone."""
    if alone:
        return _own_bytes(pid)
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_own_bytes(member.pid) for member in family)


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


def disk(directory: Path, most: int = MAX_ENTRIES) -> Usage:
    """What lies below `directory`. Follows no links; stops counting at `most` files and folders."""
    total, entries_seen, folders = 0, 0, [directory]
    while folders and entries_seen <= most:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    entries_seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue  # deleted while it was counted, or named and nested so that only its owner finds it
    return Usage(total, entries_seen)
