"""Orders for jobs on the digits network and its rows."""

import shutil
from pathlib import Path
from typing import Final

from app.spec.data import DatasetSpec
from app.spec.job import JobSpec
from app.spec.report import Report
from app.spec.work import WorkOrder
from tests.support.engine.orders import data_file, signature_of, upload
from worker.engine.data.rows import Rows
from worker.engine.job import run

FAST: Final = {"latency": {"batch": [1], "runs": 20, "budget_s": 2}}
MODEL: Final = "mdl_" + "0" * 32
DATASET: Final = "ds_" + "0" * 32
STATIC: Final = {"type": "quantize.static"}
DIGITS_SPEC: Final = DatasetSpec.model_validate(
    {"splits": {"calibration": 0.3, "test": 0.7}, "preprocess": {"image": [{"type": "to_float"}]}}
)


def digits_rows(folder: Path, split: str) -> Rows:
    """The rows of one split of `digits.npz` in the folder."""
    return Rows.open(folder, data_file("digits.npz", DIGITS_SPEC, split), ["image"])


def order_for(directory: Path, source: Path, model: str, **spec: object) -> WorkOrder:
    """Copy the model and its rows from `source` into `directory`; the order for them."""
    for name in (model, "digits.npz"):
        shutil.copy(source / name, directory / name)
    job = JobSpec.model_validate({"model": MODEL, "evaluate": FAST, **spec})
    return WorkOrder(
        job="job_1",
        attempt=1,
        spec=job,
        model=upload(directory, model, signature_of(source / "digits.onnx")),
        data={role: data_file("digits.npz", DIGITS_SPEC, role) for role in ("calibration", "test")},
        threads=1,
    )


class Heard:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.fractions: list[float] = []
        self.lines: list[str] = []

    def stage(self, name: str, *, step: int, steps: int) -> None:
        self.stages.append((name, step, steps))

    def advance(self, fraction: float, message: str = "") -> None:
        self.fractions.append(fraction)

    def log(self, message: str, level: str = "info") -> None:
        self.lines.append(message)


def matrix(digits_folder: Path, directory: Path, *asked: dict[str, object], **spec: object) -> Report:
    """The report of a job that quantizes and asks for these devices."""
    evaluate = {**FAST, "devices": list(asked)}
    order = order_for(directory, digits_folder, "digits.onnx", steps=[STATIC], evaluate=evaluate, **spec)
    return run(order, directory, Heard()).report
