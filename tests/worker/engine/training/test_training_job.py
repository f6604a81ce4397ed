"""Whole jobs that prune, train and quantize, in one attempt or in several."""

from pathlib import Path
from typing import Any

import pytest

from app.spec.job import JobSpec
from app.spec.work import WorkOrder
from tests.support.engine.digits_jobs import DATASET, FAST, MODEL, Heard
from tests.support.engine.orders import data_file, upload
from tests.support.engine.trainings import SIGNATURE, TO_FLOAT, Died, digits_rows
from worker.engine.job import run

TEACHER = "mdl_" + "1" * 32
STEPS: list[dict[str, Any]] = [
    {"type": "prune.weights", "sparsity": 0.9},
    {"type": "finetune", "epochs": 2, "learning_rate": 0.003},
    {"type": "distill", "teacher": TEACHER, "epochs": 1},
    {"type": "quantize.static"},
]


class Dying(Heard):
    """Kills the process in the middle of a stage; knows the files that were kept."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage_of_death = stage
        self.kept: list[str] = []

    def advance(self, fraction: float, message: str = "") -> None:
        super().advance(fraction, message)
        if self.stages[-1][0] == self.stage_of_death and fraction > 0.5:
            raise Died

    def checkpoint(self, name: str) -> None:
        self.kept.append(name)


@pytest.mark.slow
def test_a_chain_of_steps_survives_its_workers(digits_folder: Path, tmp_path: Path) -> None:
    for name in ("digits.pt2", "digits.onnx"):
        (tmp_path / name).write_bytes((digits_folder / name).read_bytes())
    digits_rows(tmp_path, slice(0, 400))
    digits_rows(tmp_path, slice(1000, 1400))
    train, test = (data_file(f"rows-{number}.npz", TO_FLOAT) for number in range(2))
    spec = JobSpec.model_validate({"model": MODEL, "evaluate": FAST, "steps": STEPS, "data": {"train": DATASET}})
    order = WorkOrder(
        job="job_1",
        attempt=1,
        spec=spec,
        model=upload(tmp_path, "digits.pt2", SIGNATURE),
        threads=1,
        data={"train": train, "calibration": train, "test": test},
        teachers={TEACHER: upload(tmp_path, "digits.onnx", SIGNATURE)},
    )

    for stage in ("finetune", "distill"):
        with pytest.raises(Died):
            run(order, tmp_path, Dying(stage))
    heard = Dying("none")
    report = run(order, tmp_path, heard).report

    assert [stage for stage, _, _ in heard.stages][:3] == ["opening the model", "distill", "quantize.static"]
    assert [step.type for step in report.steps] == [step["type"] for step in STEPS]
    assert report.targets[0].metrics[0].drop < 0.05
    assert report.targets[0].size.ratio < 0.4
    pruned, tuned, distilled, _ = report.steps
    assert pruned.facts["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert tuned.charts[0].title == "Loss"
    assert "another model" in distilled.summary
