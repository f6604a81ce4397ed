"""The engine's side of a toolchain: a converter or runtime that works in a process and an environment of its own.

The process shares one folder with the engine. Tasks and answers are small JSON files there, and whatever is large lies
beside them under the names that they mention; `worker.toolchains.serve` is the other side. Who starts the process is
not the engine's affair: it asks through `Progress.start_toolchain`, and finds `ended.json` when the process is over.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from app.spec.targets import ToolchainName
from worker.engine.errors import EngineError, LoadFailed, Unconvertible
from worker.engine.progress import Progress, ToolchainMissing


class ToolchainFailed(EngineError):
    """A converter or runtime gave up with an error of its own, crashed, or took too long."""

    code = "toolchain.failed"
    remedy = "Read the detail and the job's log; try a simpler recipe or another target for this model."


FOLDER: Final = "toolchains"
"""Below a job's directory, with a numbered folder for each process."""
ENDED: Final = "ended.json"
POLL_S: Final = 0.01
DEADLINE_S: Final = 1800.0
"""Of one task: litert-torch took 156 s for the slowest model that it was tried on."""

CODES: Final[dict[str, type[EngineError]]] = {
    error.code: error for error in (LoadFailed, Unconvertible, ToolchainFailed, ToolchainMissing)
}


class Toolchain:
    """A started toolchain; `folder` is where its process works, and where files for it are put."""

    def __init__(self, name: ToolchainName, folder: Path) -> None:
        """Use `started`, which also ends it."""
        self.name, self.folder = name, folder
        self._asked = 0

    def do(self, task: str, *, deadline_s: float = DEADLINE_S, **arguments: Any) -> dict[str, Any]:
        """Have the task done and return its answer.

        Paths in `arguments` are names in the folder. Raises `ToolchainFailed` (its process ended, was too slow or met
        an error of its own), `ToolchainMissing`, and `Unconvertible` for what it cannot do with this model.
        """
        answer = self._await(self._ask(task, arguments), time.monotonic() + deadline_s)
        if "error" in answer:
            error = answer["error"]
            raise CODES.get(error["code"], ToolchainFailed)(f"{self.name}: {error['detail']}")
        result: dict[str, Any] = answer["result"]
        return result

    def end(self) -> None:
        """Let the process end."""
        self._ask("end", {})

    def _ask(self, task: str, arguments: dict[str, Any]) -> Path:
        request = self.folder / f"request-{self._asked}.json"
        part = request.with_suffix(".part")
        part.write_text(json.dumps({"task": task, "arguments": arguments}), encoding="utf-8")
        part.replace(request)
        answer = self.folder / f"answer-{self._asked}.json"
        self._asked += 1
        return answer

    def _await(self, answer: Path, deadline: float) -> dict[str, Any]:
        ended = self.folder / ENDED
        while True:
            over = ended.exists()  # looked at first: an answer may come just before the end
            if answer.exists():
                response: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
                return response
            if over:
                return {"error": json.loads(ended.read_text(encoding="utf-8"))}
            if time.monotonic() > deadline:
                raise ToolchainFailed(f"{self.name} did not finish a task in time.")
            time.sleep(POLL_S)


@contextmanager
def started(name: ToolchainName, directory: Path, progress: Progress) -> Iterator[Toolchain]:
    """A toolchain's process, for a job that works in `directory`; it ends with the block.

    A missing environment is noticed by the first task, which raises `ToolchainMissing`.
    """
    every = directory / FOLDER
    every.mkdir(exist_ok=True)
    number = len(list(every.iterdir()))
    folder = every / str(number)
    folder.mkdir()
    progress.start_toolchain(number, name)
    toolchain = Toolchain(name, folder)
    try:
        yield toolchain
    finally:
        with contextlib.suppress(OSError):  # its folder may be gone with the job
            toolchain.end()
