"""A whole job, from an order on disk to measured artifacts on disk."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from app.spec.job import JobSpec
from app.spec.work import WorkResult
from tests.support.engine.digits_jobs import FAST, MODEL, Heard, order_for
from tests.support.engine.orders import outputs_of
from worker.engine.data.rows import Rows
from worker.engine.errors import PlanNotSupported
from worker.engine.job import run


def hits(artifact: Path, rows: Rows) -> float:
    right = [outputs_of(artifact, inputs)[0].argmax(1) == labels for inputs, labels in rows.batches(128)]
    return float(np.concatenate(right).mean())


@pytest.mark.parametrize("model", ["digits.onnx", "digits.pt2"])
def test_digits_from_order_to_report(model: str, digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    profiles = ["x86", "tensorrt"]
    order = order_for(
        tmp_path,
        digits_folder,
        model,
        steps=[{"type": "quantize.static"}],
        targets=[{"format": "onnx", "profile": name} for name in profiles],
    )
    heard = Heard()

    result = run(order, tmp_path, heard)

    assert [artifact.file for artifact in result.artifacts] == [
        "model-onnx-x86.onnx",
        "USAGE-onnx-x86.md",
        "model-onnx-tensorrt.onnx",
        "USAGE-onnx-tensorrt.md",
    ]
    assert [artifact.target for artifact in result.artifacts] == [0, 0, 1, 1]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(a.file for a in result.artifacts)
    report = result.report
    assert report.steps[0].type == "quantize.static"
    assert report.steps[0].facts["samples"] == 239
    for target in report.targets:
        (top1,) = target.metrics
        assert top1.before >= 0.97
        assert top1.drop <= 0.003
        assert top1.after == pytest.approx(hits(tmp_path / "out" / target.artifact, digits_test))
        assert target.size.ratio <= 0.30
    assert report.targets[0].placement.floating == 0
    assert heard.stages[0] == ("opening the model", 1, 6)
    assert [step for _, step, _ in heard.stages] == [1, 2, 3, 4, 5, 6]
    assert any("239 rows" in line for line in heard.lines)
    assert WorkResult.model_validate_json(result.model_dump_json()) == result


def test_no_step_delivers_the_original(digits_folder: Path, tmp_path: Path) -> None:
    result = run(order_for(tmp_path, digits_folder, "digits.onnx"), tmp_path, Heard())

    (target,) = result.report.targets
    assert result.report.steps == ()
    assert target.size.ratio == pytest.approx(1, abs=0.02)
    assert target.metrics[0].drop == 0


def test_a_missed_limit_keeps_the_artifact(digits_folder: Path, tmp_path: Path) -> None:
    order = order_for(
        tmp_path,
        digits_folder,
        "digits.onnx",
        steps=[{"type": "quantize.static"}],
        evaluate={**FAST, "limits": {"max_size_ratio": 0.01}},
    )
    result = run(order, tmp_path, Heard())
    assert result.report.targets[0].missed_limits
    assert (tmp_path / "out" / result.artifacts[0].file).stat().st_size > 0


def test_a_plan_the_target_cannot_carry_out(digits_folder: Path, tmp_path: Path) -> None:
    order = order_for(
        tmp_path,
        digits_folder,
        "digits.onnx",
        steps=[{"type": "quantize.dynamic"}],
        targets=[{"format": "onnx", "profile": "tensorrt"}],
    )
    with pytest.raises(PlanNotSupported):
        run(order, tmp_path, Heard())


def test_the_artifact_carries_the_recipe(digits_folder: Path, tmp_path: Path) -> None:
    order = order_for(tmp_path, digits_folder, "digits.onnx", steps=[{"type": "quantize.static"}])
    result = run(order, tmp_path, Heard())

    model = onnx.load(tmp_path / "out" / result.artifacts[0].file)
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes["pare.recipe_sha256"] == result.report.recipe_sha256 == order.spec.recipe_sha256
    assert notes["pare.parent_sha256"] == order.model.sha256


def test_the_recipe_is_what_decides_the_result() -> None:
    def digest(**spec: object) -> str:
        return JobSpec.model_validate({"model": MODEL, **spec}).recipe_sha256

    same = digest(steps=[{"type": "quantize.static"}])
    assert digest(name="other", labels={"a": "b"}, steps=[{"type": "quantize.static", "samples": 512}]) == same
    assert digest(steps=[{"type": "quantize.static", "samples": 100}]) != same
    assert digest(steps=[{"type": "quantize.static"}], seed=1) != same
    assert digest(steps=[{"type": "quantize.static"}], targets=[{"format": "onnx", "profile": "arm"}]) != same
