"""A runtime that lives in a toolchain: its process runs, times and describes the artifact."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from app.spec.evaluate import Latency
from app.spec.report import MOST_POINTS, Placement, Profile, Size
from worker.engine.measure.batching import AnyRows, BatchRange
from worker.engine.measure.running import Arrays
from worker.engine.measure.runtime import Layers
from worker.engine.toolchains.process import Toolchain

PROFILED_RUNS = 20


@dataclass(frozen=True)
class ToolchainRuntime:
    """Two artifacts in the toolchain's folder, by the names of their files; the first of each is what is loaded."""

    toolchain: Toolchain
    name: str
    baseline: tuple[str, ...]
    artifact: tuple[str, ...]
    threads: int
    notes: tuple[str, ...] = ()
    """What to know about the figures."""
    profiled: bool = False
    """Whether the toolchain has a task that times operators."""
    _numbers: Any = field(default_factory=count, repr=False)

    def run(self, feeds: Arrays) -> Arrays:
        """The artifact's outputs by name. Raises the toolchain's errors."""
        given = self._put(feeds)
        into = given.replace("rows", "outputs")
        self.toolchain.do("run", artifact=self.artifact[0], threads=self.threads, feeds=given, into=into)
        path = self.toolchain.folder / into
        with np.load(path, allow_pickle=False) as file:
            outputs = {key: file[key] for key in file.files}
        path.unlink()
        (self.toolchain.folder / given).unlink()
        return outputs

    def take_turns(self, feeds: Arrays, settings: Latency, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Nanoseconds of each run of both, timed in the toolchain's process. Raises the toolchain's errors."""
        timed = self.toolchain.do(
            "time",
            before=self.baseline[0],
            after=self.artifact[0],
            threads=settings.threads,
            feeds=self._put(feeds),
            runs=settings.runs,
            budget_s=settings.budget_s,
            seed=seed,
        )
        return np.array(timed["before"], np.float64), np.array(timed["after"], np.float64)

    def profile(self, feeds: Arrays, threads: int) -> Profile | None:
        """The artifact's time by operator. Raises the toolchain's errors."""
        if not self.profiled:
            return None
        given, rows = self._put(feeds), max((len(array) for array in feeds.values() if array.ndim), default=1)
        answer = self.toolchain.do(
            "profile", artifact=self.artifact[0], threads=threads, feeds=given, runs=PROFILED_RUNS
        )
        operators = answer["operators"][:MOST_POINTS]
        return Profile.model_validate(
            {"batch": rows, "threads": threads, "runs": PROFILED_RUNS, "operators": operators}
        )

    def placement(self) -> Placement:
        """What the runtime says that it executes."""
        return Placement.model_validate(self.toolchain.do("placement", artifact=self.artifact[0], threads=self.threads))

    def layers(self, _rows: AnyRows, _batch: BatchRange, _advance: Callable[[float], None]) -> Layers:
        """Layers inside it cannot be seen from here."""
        return (), self.notes

    def size(self) -> Size:
        """Bytes on disk of all files of each."""
        return Size(before_bytes=self._bytes(self.baseline), after_bytes=self._bytes(self.artifact))

    def _bytes(self, files: tuple[str, ...]) -> int:
        return sum((self.toolchain.folder / name).stat().st_size for name in files)

    def _put(self, feeds: Arrays) -> str:
        name = f"rows-{next(self._numbers)}.npz"
        with (self.toolchain.folder / name).open("wb") as file:
            np.savez(file, **feeds)  # type: ignore[arg-type]  # numpy types its own option as if it came last
        return name
