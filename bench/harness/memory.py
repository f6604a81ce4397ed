"""Resident memory of a process while something happens."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

LOOK_SECONDS = 0.005
MB = 1e6


@dataclass
class Resident:
    """Bytes before, at most, and after. `after` is set when the block has ended."""

    before: int
    peak: int
    after: int = 0

    @property
    def growth_mb(self) -> float:
        """Peak above what the process had before, in MB."""
        return (self.peak - self.before) / MB


@contextmanager
def watching(pid: int) -> Iterator[Resident]:
    """Look at the process two hundred times a second while the block lasts."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    seen = Resident(before, before)
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            seen.peak = max(seen.peak, process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
        seen.after = process.memory_info().rss
        seen.peak = max(seen.peak, seen.after)
