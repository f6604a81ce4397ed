"""Jobs on ONNX files that need a program: every step that trains or removes, every target made from one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.spec.report import Report, TargetReport
from tests.support.engine.digits_jobs import DIGITS_SPEC, STATIC, order_for
from tests.support.engine.orders import data_file
from tests.support.target_jobs import Done
from worker.engine.job import run
from worker.engine.progress import Unheard

PROGRAM_TARGETS = ["executorch", "litert", "torchscript"]


def require_same_names(target: TargetReport, drop: float) -> None:
    assert [output.output for output in target.parity] == ["logits"]
    assert target.metrics[0].drop is not None
    assert target.metrics[0].drop <= drop


@pytest.mark.slow
@pytest.mark.toolchain("executorch")
@pytest.mark.toolchain("litert")
def test_an_onnx_file_is_delivered_for_targets_made_from_programs(done: Callable[..., Done]) -> None:
    exported = done("digits.onnx", targets=[{"format": name} for name in PROGRAM_TARGETS])

    assert len(exported.report.targets) == 3
    for target in exported.report.targets:
        require_same_names(target, drop=0)
        assert target.parity[0].max_abs < 1e-4


@pytest.mark.slow
@pytest.mark.toolchain("executorch")
@pytest.mark.toolchain("litert")
def test_a_static_plan_of_an_onnx_file_is_carried_out_everywhere(done: Callable[..., Done]) -> None:
    targets: list[Any] = [{"format": name} for name in (*PROGRAM_TARGETS, "onnx")]
    quantized = done("digits.onnx", steps=[STATIC], targets=targets)

    assert len(quantized.report.targets) == 4
    for target in quantized.report.targets:
        require_same_names(target, drop=0.02)
        assert target.size.ratio < 0.45, target.target.label


def trained(source: Path, directory: Path, model: str, **spec: Any) -> Report:
    """A job that trains on some rows and tests on others; its artifacts are in `out`."""
    directory.mkdir()
    order = order_for(directory, source, model, **spec)
    rows = {**order.data, "train": data_file("digits.npz", DIGITS_SPEC, "calibration")}
    return run(order.model_copy(update={"data": rows}), directory, Unheard()).report


def test_an_onnx_file_is_pruned_trained_and_quantized_in_one_job(digits_folder: Path, tmp_path: Path) -> None:
    steps = [
        {"type": "prune.channels", "ratio": 0.3, "round_to": 8},
        {"type": "finetune", "epochs": 3},
        {"type": "quantize.aware", "epochs": 1},
    ]
    report = trained(digits_folder, tmp_path / "job", "digits.onnx", steps=steps, targets=[{"format": "onnx"}])

    pruned, tuned, _ = report.steps
    (target,) = report.targets
    assert pruned.facts["parameters_after"] < 0.7 * float(pruned.facts["parameters_before"])
    assert "right answers" in tuned.summary
    require_same_names(target, drop=0.05)
    assert target.size.ratio < 0.25


def test_a_distilled_and_a_shared_onnx_file(digits_folder: Path, tmp_path: Path) -> None:
    steps = [
        {"type": "prune.weights", "sparsity": 0.6},
        {"type": "distill", "epochs": 1},
        {"type": "share_weights", "clusters": 16, "tune": {"epochs": 1}},
    ]
    report = trained(digits_folder, tmp_path / "job", "digits.onnx", steps=steps, targets=[{"format": "onnx"}])

    require_same_names(report.targets[0], drop=0.05)


def test_an_artifact_is_the_next_jobs_model(digits_folder: Path, tmp_path: Path) -> None:
    """Integers become floats on the same grid, which can be trained."""
    trained(digits_folder, tmp_path / "first", "digits.onnx", steps=[STATIC], targets=[{"format": "onnx"}])
    (delivered,) = (tmp_path / "first" / "out").glob("*.onnx")
    shutil.copyfile(delivered, digits_folder / "digits-int8.onnx")

    steps, targets = [{"type": "finetune", "epochs": 1}], [{"format": "torchscript"}]
    report = trained(digits_folder, tmp_path / "second", "digits-int8.onnx", steps=steps, targets=targets)

    require_same_names(report.targets[0], drop=0.05)
