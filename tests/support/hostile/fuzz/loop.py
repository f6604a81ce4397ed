"""Runs one reader on mutated files, in this process, until time is up or it does what no reader may do.

A reader may find nothing wrong, or refuse with an error that is documented. It may not raise anything else, take more
than `CPU_SECONDS` for one file, or `MEMORY_BYTES` beside what the process had. Files that bring a refusal not seen
before are mutated further: that is all the guidance there is.
"""

import random
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from app.errors import PareError
from tests.support.hostile.fuzz.mutation import mutated
from tests.support.hostile.fuzz.readers import READERS, REFUSALS
from tests.support.root import ROOT

CPU_SECONDS = 2.0
MEMORY_BYTES = 500 << 20
MOST_KEPT = 400
_VARYING = re.compile(r"\d+|'[^']*'")


class TooSlow(Exception):
    """One file took more than `CPU_SECONDS`."""


class Undocumented(Exception):
    """A refusal without a code that docs/errors.md knows, a sentence or a remedy."""


@dataclass(frozen=True)
class Outcome:
    """How many files were read, in how many ways they were refused, and the first fault: its file and what happened."""

    files: int
    refusals: int
    culprit: bytes | None = None
    fault: str = ""


def fuzz(name: str, seeds: list[bytes], scratch: Path, *, seconds: float, seed: int) -> Outcome:
    """Read mutations of the seeds until `seconds` are over. The same seed gives the same files in the same order."""
    chance = random.Random(f"{name} {seed}")
    pool, seen, read, documented = list(seeds), set[str](), READERS[name], (ROOT / "docs" / "errors.md").read_text()
    ends, files = time.monotonic() + seconds, 0
    for good in seeds:
        scratch.write_bytes(good)
        seen.add(refused(read, scratch, documented))
    while time.monotonic() < ends or not files:
        content = mutated(chance, chance.choice(pool), seeds)
        scratch.write_bytes(content)
        files += 1
        try:
            refusal = refused(read, scratch, documented)
        except Exception:  # noqa: BLE001, every other one is what is searched for
            return Outcome(files, len(seen), content, traceback.format_exc())
        if refusal not in seen:
            seen.add(refusal)
            if len(pool) < MOST_KEPT:
                pool.append(content or b"\0")
    return Outcome(files, len(seen))


def refused(read: Callable[[Path], object], path: Path, documented: str) -> str:
    """What the reader says about the file, without numbers and names; empty if it takes it."""
    try:
        with within(CPU_SECONDS):
            read(path)
    except REFUSALS as error:
        if isinstance(error, PareError) and not (f"`{error.code}`" in documented and error.detail and error.remedy):
            raise Undocumented(repr(error)) from error
        return _VARYING.sub("", f"{type(error).__name__} {error}")
    return ""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` after so much CPU time, whatever else the machine is doing."""

    def stop(_: int, __: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def limit_memory() -> None:
    """Let this process have `MEMORY_BYTES` of address space more than it has: beyond is a MemoryError."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
