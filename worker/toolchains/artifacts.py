"""The tasks that every runtime shares: run an artifact on rows, and time two of them. The rows are `.npz` files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .turns import take_turns

Arrays = dict[str, np.ndarray]


class Artifacts:
    """Open artifacts of one runtime, by file name and threads.

    `load` makes of a path and a number of threads a function from inputs to outputs by name. `bind`, where a runtime
    has it, makes a function without arguments that runs on inputs given once: what is timed then is the runtime alone.
    """

    def __init__(
        self, load: Callable[[Path, int], Any], bind: Callable[[Any, Arrays], Callable[[], object]] | None = None
    ) -> None:
        self._load, self._bind = load, bind
        self._open: dict[tuple[str, int], Any] = {}

    def opened(self, name: str, threads: int) -> Any:
        """The artifact, opened once."""
        key = name, threads
        if key not in self._open:
            self._open[key] = self._load(Path(name), threads)
        return self._open[key]

    def run(self, artifact: str, threads: int, feeds: str, into: str) -> dict[str, Any]:
        """Outputs for the rows of `feeds`, written to `into`."""
        outputs = self.opened(artifact, threads)(arrays(feeds))
        with Path(into).open("wb") as file:
            np.savez(file, **outputs)
        return {}

    def time(
        self, before: str, after: str, threads: int, feeds: str, runs: int, budget_s: float, seed: int
    ) -> dict[str, Any]:
        """Nanoseconds of each run of both on the rows of `feeds`, taking turns."""
        rows = arrays(feeds)
        once = tuple(self._once(self.opened(name, threads), rows) for name in (before, after))
        times = take_turns((once[0], once[1]), runs=runs, budget_s=budget_s, seed=seed)
        return {"before": times[0].tolist(), "after": times[1].tolist()}

    def _once(self, model: Any, rows: Arrays) -> Callable[[], object]:
        if self._bind is not None:
            return self._bind(model, rows)
        return lambda: model(rows)


def arrays(name: str) -> Arrays:
    """The arrays of an `.npz` file."""
    with np.load(name, allow_pickle=False) as file:
        return {key: np.ascontiguousarray(file[key]) for key in file.files}
