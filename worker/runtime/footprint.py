"""How much memory and disk a job holds, seen from its parent."""

import os
import re
from pathlib import Path
from typing import Final

import psutil

from worker.runtime.jail import libc

_OWN_PAGES: Final = re.compile(r"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB$", re.MULTILINE)
"""Pages that only the job holds. Mapped files (libraries, weights) are left out: the kernel can drop those at will."""


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
            return 1024 * sum(int(found) for found in _OWN_PAGES.findall(status))
        return int(psutil.Process(pid).memory_info().rss)
    except (OSError, psutil.Error):
        return 0


def disk_bytes(directory: Path) -> int:
    """Space that the files below `directory` take. Follows no links."""
    total, folders = 0, [directory]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue  # deleted while it was counted, or named and nested so that only its owner finds it
    return total
