"""openvino: artifacts are converted, run, timed and described by OpenVINO itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.spec.signature import ModelInfo
from app.spec.work import ModelFile, WorkOrder
from tests.support.engine.digits_jobs import FAST, MODEL
from tests.support.engine.orders import signature_of
from tests.support.networks import NAMES
from tests.support.target_jobs import Done, finished, run_usage
from worker.runtime.job_sandbox import JobSandbox

STATIC = {"type": "quantize.static"}


pytestmark = pytest.mark.toolchain("openvino")


@pytest.mark.parametrize("model", ["digits.pt2", "digits.onnx"])
def test_an_export_computes_the_same(model: str, done: Callable[..., Done]) -> None:
    exported = done(model, targets=[{"format": "openvino"}])

    target = exported.target("openvino/fp32")
    assert target.runtime.startswith("OpenVINO 20")
    (logits,) = target.parity
    assert logits.max_abs < 1e-4
    assert logits.top1_agreement == 1
    assert target.metrics[0].drop == 0
    assert target.placement.floating == 5
    assert target.placement.integer == 0
    assert [artifact.file for artifact in exported.result.artifacts] == [
        "model-openvino-fp32.xml",
        "model-openvino-fp32.bin",
        "USAGE-openvino-fp32.md",
    ]


def test_half_precision_halves_the_file(done: Callable[..., Done]) -> None:
    target = done(targets=[{"format": "openvino", "precision": "fp16"}]).target("openvino/fp16")

    assert target.size.ratio < 0.6
    assert target.parity[0].sqnr_db is not None
    assert target.parity[0].sqnr_db > 50


def test_a_quantized_plan_runs_on_integer_kernels(done: Callable[..., Done]) -> None:
    quantized = done(steps=[STATIC], targets=[{"format": "openvino"}, {"format": "onnx"}])

    target = quantized.target("openvino/fp32")
    assert target.placement.floating == 0
    assert target.placement.integer == 5
    assert target.size.ratio < 0.4
    assert target.parity[0].top1_agreement is not None
    assert target.parity[0].top1_agreement >= 0.99
    assert target.latency[0].before.runs >= 6
    both = [one.metrics[0].after for one in quantized.report.targets]
    assert both[0] == pytest.approx(both[1], abs=0.005), "one plan, two runtimes"


@pytest.mark.parametrize(
    ("step", "most"),
    [
        ({"type": "quantize.weights", "weights": "int8"}, 0.35),
        ({"type": "share_weights", "clusters": 16}, 1.05),
        ({"type": "quantize.dynamic"}, 1.05),
    ],
    ids=lambda value: value.get("weights", value["type"]) if isinstance(value, dict) else "",
)
def test_every_plan_arrives(step: dict[str, object], most: float, done: Callable[..., Done]) -> None:
    target = done(steps=[step], targets=[{"format": "openvino"}]).target("openvino/fp32")

    assert target.size.ratio < most
    assert target.metrics[0].drop < 0.02


@pytest.mark.parametrize(("how", "integer"), [("weights", 0), ("full", 5)])
def test_nncf_quantizes_in_place_of_a_step(how: str, integer: int, done: Callable[..., Done]) -> None:
    label = f"openvino/fp32-nncf-{how}"
    target = done(targets=[{"format": "openvino", "nncf": how}]).target(label)

    assert target.size.ratio < 0.35
    assert target.placement.integer == integer
    assert target.parity[0].top1_agreement is not None
    assert target.parity[0].top1_agreement >= 0.99


def test_usage_is_code_that_runs(done: Callable[..., Done]) -> None:
    exported = done(targets=[{"format": "openvino"}])

    ending = "\nprint({name: array.shape for name, array in outputs.items()})"
    assert run_usage(exported.folder, "openvino", "USAGE-openvino-fp32.md", ending) == "{'logits': (1, 10)}"


def test_resnet18_computes_the_same(resnet18: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    directory = tmp_path / "job"
    directory.mkdir()
    (directory / "resnet18.onnx").write_bytes(resnet18.read_bytes())
    info = ModelInfo(format="onnx", signature=signature_of(resnet18), parameters=11_689_512, nodes=50, operators={})
    order = WorkOrder.model_validate(
        {
            "job": "job_1",
            "attempt": 1,
            "data": {},
            "threads": 1,
            "spec": {"model": MODEL, "evaluate": FAST, "targets": [{"format": "openvino"}]},
            "model": ModelFile(path="resnet18.onnx", sha256="0" * 64, bytes=resnet18.stat().st_size, info=info),
        }
    )

    target = finished(job_sandbox, order, directory).target("openvino/fp32")

    assert target.parity[0].max_abs < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_networks_compute_the_same(name: str, of_network: Callable[..., Done]) -> None:
    (logits,) = of_network(name, targets=[{"format": "openvino"}]).target("openvino/fp32").parity

    assert logits.max_abs < 1e-4
    assert logits.sqnr_db is None or logits.sqnr_db > 80
