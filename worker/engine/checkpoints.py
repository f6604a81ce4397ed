"""What a job has finished so far, on disk: the next attempt begins there instead of at the start."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.engine.progress import Progress

FOLDER = "checkpoints"
"""In the job's directory. Whoever runs the job keeps these files and lays them out again for the next attempt."""
UNFINISHED = "unfinished-"
"""Begins the names of files that are of use until the step that wrote them is done."""


class Checkpoints:
    """Files that outlive an attempt, by name. A name that exists is complete."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        """Keep files in `folder`, which is made; `progress` hears of each."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._progress = folder, progress

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        """Have `write` make a file and put it in place of what had the name before, in one go."""
        partial, final = self._folder / f".partial-{name}", self._folder / name  # torch looks at the suffix
        write(partial)
        os.replace(partial, final)  # noqa: PTH105  # the atomic call, by its own name
        self._progress.checkpoint(name)
        return final

    def find(self, name: str) -> Path | None:
        """The file of this name, if an earlier attempt kept it."""
        path = self._folder / name
        return path if path.is_file() else None

    def drop(self, name: str) -> None:
        """Forget a file that is of no more use."""
        (self._folder / name).unlink(missing_ok=True)
        self._progress.checkpoint(name)

    def drop_unfinished(self) -> None:
        """Forget the state of a step that is done: what it led to is kept by now."""
        for path in sorted(self._folder.glob(f"{UNFINISHED}*")):
            self.drop(path.name)

    def keep_json(self, name: str, value: Any) -> None:
        """Keep a small value."""
        self.keep(name, lambda path: path.write_text(json.dumps(value), encoding="utf-8"))

    def find_json(self, name: str) -> Any:
        """The value kept under this name, None if there is none."""
        path = self.find(name)
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))
