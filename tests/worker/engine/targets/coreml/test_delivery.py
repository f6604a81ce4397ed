"""coreml: packages are converted and described by coremltools; off macOS nothing runs them, and the report says so."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from app.report import render_markdown
from app.spec.job import JobSpec
from app.spec.signature import Dimension, Signature, TensorSpec
from app.spec.work import WorkOrder
from tests.support.engine.digits_jobs import FAST, MODEL
from tests.support.engine.orders import upload
from tests.support.engine.zoo import program
from tests.support.networks import NAMES
from tests.support.target_jobs import Done, finished, run_usage
from worker.runtime.job_sandbox import JobSandbox

pytestmark = pytest.mark.toolchain("coreml")


def test_what_was_not_executed_claims_nothing(done: Callable[..., Done]) -> None:
    exported = done(targets=[{"format": "coreml", "precision": "fp32"}])

    target = exported.target("coreml/fp32")
    assert target.status == "converted"
    assert target.runtime.startswith("coremltools 9")
    assert (target.metrics, target.parity, target.latency) == ((), (), ())
    assert target.verdict == "unchanged"
    assert target.placement.operators["conv"] == 3
    assert target.placement.floating == 5
    assert any("Nothing was run" in note for note in target.notes)
    assert [artifact.file for artifact in exported.result.artifacts] == [
        "model-coreml-fp32.mlpackage.zip",
        "USAGE-coreml-fp32.md",
    ]
    ending = "\nprint([one.name for one in model.get_spec().description.output])"
    assert run_usage(exported.folder, "coreml", "USAGE-coreml-fp32.md", ending) == "['logits']"


def test_half_precision_halves_the_file(done: Callable[..., Done]) -> None:
    target = done(targets=[{"format": "coreml"}]).target("coreml/fp16")

    assert target.size.ratio < 0.65
    assert target.verdict == "unproven", "smaller, but nobody has seen its outputs"


def test_what_was_not_executed_does_not_judge_the_job(done: Callable[..., Done]) -> None:
    targets = [{"format": "coreml"}, {"format": "onnx"}]
    report = done(steps=[{"type": "quantize.weights", "symmetric": True}], targets=targets).report

    assert report.verdict == report.targets[1].verdict == "improved"
    text = render_markdown(report)
    assert text.count("compute nodes run on integer kernels") == 1, "where it was run"


def test_shared_weights_become_tables(done: Callable[..., Done]) -> None:
    step = {"type": "share_weights", "clusters": 16}
    target = done(steps=[step], targets=[{"format": "coreml", "precision": "fp32"}]).target("coreml/fp32")

    assert target.placement.operators["constexpr_lut_to_dense"] >= 3
    assert target.size.ratio < 0.4


def test_a_static_plan_keeps_its_own_scales(done: Callable[..., Done]) -> None:
    target = done(steps=[{"type": "quantize.static"}], targets=[{"format": "coreml"}]).target("coreml/fp16")

    assert target.placement.operators["constexpr_blockwise_shift_scale"] == 5
    assert target.placement.operators["quantize"] >= 5
    assert target.size.ratio < 0.35


@pytest.mark.parametrize(("bits", "most"), [("int8", 0.3), ("int4", 0.18)])
def test_stored_weights_are_packed(bits: str, most: float, done: Callable[..., Done]) -> None:
    step = {"type": "quantize.weights", "weights": bits, "symmetric": True, "block": 65_536}
    target = done(steps=[step], targets=[{"format": "coreml"}]).target("coreml/fp16")

    assert target.placement.operators["constexpr_blockwise_shift_scale"] == 4, "one layer is too small to be worth it"
    assert target.size.ratio < most


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_converted(name: str, of_network: Callable[..., Done]) -> None:
    done = of_network(name, targets=[{"format": "coreml"}])

    assert done.target("coreml/fp16").placement.floating > 8
    with zipfile.ZipFile(done.folder / "model-coreml-fp16.mlpackage.zip") as archive:
        assert "model-coreml-fp16.mlpackage/Manifest.json" in archive.namelist()


def test_a_pooling_without_a_stride_is_converted(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    class Pooled(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten.max_pool2d.default(image, [2, 2]).flatten(1)

    batch = Dimension(name="batch", min=1, max=4096)
    torch.export.save(program(Pooled(), torch.zeros(2, 3, 8, 8)), tmp_path / "model.pt2")
    signature = Signature(
        inputs=(TensorSpec(name="image", dtype="float32", shape=(batch, 3, 8, 8)),),
        outputs=(TensorSpec(name="pooled", dtype="float32", shape=(batch, 48)),),
    )
    spec = JobSpec.model_validate({"model": MODEL, "evaluate": FAST, "targets": [{"format": "coreml"}]})
    model = upload(tmp_path, "model.pt2", signature)

    result = finished(
        job_sandbox, WorkOrder(job="job_1", attempt=1, spec=spec, model=model, data={}, threads=1), tmp_path
    )

    assert result.target("coreml/fp16").placement.operators["max_pool"] == 1
