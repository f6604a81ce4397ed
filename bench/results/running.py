"""One recipe on one network, run by the engine as a worker's child runs it."""

import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.admission import admit_dataset, admit_model
from app.spec.data import DatasetSpec
from app.spec.job import JobSpec, Role
from app.spec.work import DataFile, ModelFile, WorkOrder
from bench.results import openvino_speed
from bench.results.recipes import TEACHER, Recipe
from worker.engine.job import OUT, run
from worker.engine.progress import Unheard

MODEL, DATA = "mdl_" + "1" * 32, "ds_" + "1" * 32
PARTS: dict[Role, str] = {"train": "train", "validation": "validation", "calibration": "train", "test": "test"}
"""The rows of each role: ranges are measured on training rows, nothing is chosen on test rows."""
BYTES = 20 << 30
CHUNK = 1 << 20


@dataclass(frozen=True)
class Files:
    """A network and its data on disk."""

    model: Path
    rows: dict[str, Path]
    """An `.npz` each for "train", "validation" and "test"."""
    spec: DatasetSpec
    teacher: Path | None = None


@dataclass(frozen=True)
class Effort:
    """How long speed is measured, at which sizes of a batch; of no size: not at all."""

    batches: tuple[int, ...]
    budget_s: float

    @property
    def latency(self) -> dict[str, Any]:
        """As a job asks for it. A job always measures speed: the least that it accepts stands for not at all."""
        if not self.batches:
            return {"batch": (1,), "threads": 1, "runs": 20, "budget_s": 0.1}
        return {"batch": self.batches, "threads": 1, "budget_s": self.budget_s}


@dataclass(frozen=True)
class Outcome:
    """What one recipe did to one network."""

    before: float
    """Top-1 on the test rows, a share."""
    after: float
    rows: int
    bytes_before: int
    bytes_after: int
    speedup: dict[str, float]
    """By runtime and batch: "ONNX Runtime, batch 1"; empty where speed was not asked for."""
    zipped: float
    """Size before / after, both compressed: what a download shrinks by."""
    seconds: float
    """Of the steps: the cost of the technique, without export and measurement."""

    @property
    def drop(self) -> float:
        """Points of top-1 lost."""
        return round(100 * (self.before - self.after), 6)

    @property
    def smaller(self) -> float:
        """Size before / after."""
        return self.bytes_before / self.bytes_after


def outcome(recipe: Recipe, files: Files, folder: Path, *, seed: int, effort: Effort) -> Outcome:
    """Run the recipe in `folder`, which is emptied. Raises what the engine raises."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    report = run(_order(recipe, files, seed, effort), folder, Unheard()).report
    target = report.targets[0]
    artifact = folder / OUT / target.artifact
    metric = target.metrics[0]
    # Of every model that the job exported, the original is the first.
    original = min((folder / "scratch").glob("model-*/float.onnx"), key=lambda path: path.stat().st_mtime_ns)
    speedup = {
        f"ONNX Runtime, batch {change.batch}": change.speedup
        for change in target.latency
        if change.batch in effort.batches
    } | openvino_speed.speedups(original, artifact, effort.batches, effort.budget_s)
    return Outcome(
        metric.before,
        metric.after,
        metric.rows,
        target.size.before_bytes,
        target.size.after_bytes,
        speedup,
        zipped_bytes(original) / zipped_bytes(artifact),
        sum(step.seconds for step in report.steps),
    )


def zipped_bytes(path: Path) -> int:
    """Size of a file under deflate."""
    packer, total = zlib.compressobj(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total += len(packer.compress(chunk))
    return total + len(packer.flush())


def _order(recipe: Recipe, files: Files, seed: int, effort: Effort) -> WorkOrder:
    spec = JobSpec.model_validate(
        {
            "name": recipe.name,
            "model": MODEL,
            "data": dict.fromkeys(PARTS, DATA),
            "steps": recipe.steps,
            "evaluate": {
                "metrics": ["top1"],
                "latency": effort.latency,
            },
            "seed": seed,
        }
    )
    infos = {part: admit_dataset(path, files.spec, max_inflated_bytes=BYTES) for part, path in files.rows.items()}
    data = {
        role: DataFile(path=str(files.rows[part]), info=infos[part], spec=files.spec, split=None)
        for role, part in PARTS.items()
    }
    teachers = {} if files.teacher is None else {TEACHER: _model(files.teacher)}
    return WorkOrder(
        job="job_results", attempt=1, spec=spec, model=_model(files.model), data=data, teachers=teachers, threads=1
    )


def _model(path: Path) -> ModelFile:
    info = admit_model(path, max_inflated_bytes=BYTES)
    return ModelFile(path=str(path), sha256="0" * 64, bytes=path.stat().st_size, info=info)
