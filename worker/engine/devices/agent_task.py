"""The engine's side of a device agent: it lays a task out in a folder, asks for it, and finds the answer there.

Who takes it to the device is not the engine's affair: it asks through `Progress.ask_agent`. The answer is
`answer.json`, `{"measurement": …}` or `{"failure": …}`; a measurement's outputs lie beside it.
"""

import json
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from app.spec.agents import OUTPUTS, AgentMeasurement, AgentOrder
from app.spec.base import Frozen
from app.spec.failure import Failure
from worker.engine.measure.running import Arrays
from worker.engine.progress import Progress

FOLDER: Final = "agents"
"""Below a job's directory, with a numbered folder for each task."""
ORDER: Final = "order.json"
ANSWER: Final = "answer.json"
TIMED: Final = "timed"
POLL_S: Final = 0.2


class AgentAnswer(Frozen):
    """What came back: one of both."""

    measurement: AgentMeasurement | None = None
    failure: Failure | None = None


class Answered:
    """An answer, and the device's outputs for each batch that it was sent."""

    def __init__(self, folder: Path, answer: AgentAnswer) -> None:
        """`folder` is where the task was laid out."""
        self.folder, self.measurement, self.failure = folder, answer.measurement, answer.failure

    def outputs(self) -> Iterator[Arrays]:
        """By name, batch by batch in the order sent; the last may be missing. Raises ValueError for no arrays."""
        with np.load(self.folder / OUTPUTS, allow_pickle=False) as file:
            batches: dict[str, list[str]] = {}
            for key in file.files:
                batches.setdefault(key.partition("/")[0], []).append(key)
            for number in range(len(batches)):
                yield {key.partition("/")[2]: file[key] for key in batches.get(str(number), ())}


def ask(
    agent: str,
    order: AgentOrder,
    files: Mapping[str, Path],
    batches: Iterator[Arrays],
    timed: Arrays,
    *,
    directory: Path,
    progress: Progress,
) -> Answered:
    """Have a task done by an agent, for a job that works in `directory`, and wait for the answer."""
    every = directory / FOLDER
    every.mkdir(exist_ok=True)
    number = len(list(every.iterdir()))
    folder = every / str(number)
    folder.mkdir()
    for role, path in files.items():
        shutil.copyfile(path, folder / role)
    _write_rows(folder / "rows", batches, timed)
    (folder / ORDER).write_text(order.model_dump_json(), encoding="utf-8")
    progress.ask_agent(number, agent)
    while not (folder / ANSWER).exists():
        time.sleep(POLL_S)
    return Answered(folder, AgentAnswer.model_validate(json.loads((folder / ANSWER).read_text(encoding="utf-8"))))


def _write_rows(path: Path, batches: Iterator[Arrays], timed: Arrays) -> None:
    """An `.npz` of one batch after the other: none but the present one is in memory."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, arrays in enumerate(batches):
            _write(archive, str(number), arrays)
        _write(archive, TIMED, timed)


def _write(archive: zipfile.ZipFile, batch: str, arrays: Arrays) -> None:
    for name, array in arrays.items():
        with archive.open(f"{batch}/{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
