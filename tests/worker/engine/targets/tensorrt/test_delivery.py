"""tensorrt: what TensorRT would build is written, checked by its rules, and run by ONNX Runtime in its place."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto

from app.spec.signature import ModelInfo
from app.spec.work import ModelFile, WorkOrder
from tests.support.engine import zoo
from tests.support.engine.digits_jobs import FAST, MODEL
from tests.support.engine.orders import signature_of
from tests.support.networks import NAMES
from tests.support.target_jobs import Done, finished
from worker.engine.targets.tensorrt.releases import RELEASES
from worker.engine.targets.tensorrt.rules import require_rules
from worker.runtime.job_sandbox import JobSandbox

STATIC = {"type": "quantize.static"}
BOTH = [{"format": "tensorrt", "profile": profile} for profile in ("trt10", "trt11")]


@pytest.mark.parametrize("model", ["digits.pt2", "digits.onnx"])
def test_an_export_computes_the_same(model: str, done: Callable[..., Done]) -> None:
    exported = done(model, targets=BOTH)

    for target in exported.report.targets:
        assert target.status == "planned"
        assert target.runtime.endswith("in place of TensorRT")
        assert target.latency == ()
        assert target.parity[0].max_abs < 1e-4
        assert (target.placement.integer, target.placement.floating) == (0, 5)
    assert [artifact.file for artifact in exported.result.artifacts][:2] == [
        "model-tensorrt-trt10-fp32.onnx",
        "USAGE-tensorrt-trt10-fp32.md",
    ]


def test_a_quantized_plan_keeps_the_rules_and_the_answers(done: Callable[..., Done]) -> None:
    quantized = done(steps=[STATIC], targets=[{**one, "precision": "fp16"} for one in BOTH] + BOTH)

    for target in quantized.report.targets:
        assert target.parity[0].top1_agreement is not None
        assert target.parity[0].top1_agreement >= 0.99
        assert (target.placement.integer, target.placement.floating) == (5, 0)
        assert target.size.ratio < 0.35
        graph = onnx.load(quantized.folder / target.artifact)
        require_rules(graph, RELEASES[target.target.profile])
        assert {tensor.data_type for tensor in graph.graph.initializer} >= {TensorProto.INT8}
        assert any("built where it will run" in note for note in target.notes)


def test_half_precision_lives_in_the_graph(done: Callable[..., Done]) -> None:
    exported = done(targets=[{**one, "precision": "fp16"} for one in BOTH])

    for target in exported.report.targets:
        assert target.size.ratio < 0.6
        assert target.parity[0].sqnr_db is not None
        assert target.parity[0].sqnr_db > 40
        graph = onnx.load(exported.folder / target.artifact).graph
        assert TensorProto.FLOAT not in {tensor.data_type for tensor in graph.initializer}
        assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {TensorProto.FLOAT}
    ten, eleven = (
        (exported.folder / f"USAGE-tensorrt-{profile}-fp16.md").read_text() for profile in ("trt10", "trt11")
    )
    assert "--fp16" in ten
    assert "--fp16" not in eleven


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_usage_is_code_that_runs_and_a_command_with_shapes(precision: str, done: Callable[..., Done]) -> None:
    exported = done(targets=[{"format": "tensorrt", "precision": precision}])

    usage = (exported.folder / f"USAGE-tensorrt-trt10-{precision}.md").read_text()
    code = usage.partition("```python\n")[2].partition("```")[0]
    ending = "\nprint([array.shape for array in outputs])"
    command = [sys.executable, "-I", "-c", code + ending]
    ran = subprocess.run(command, cwd=exported.folder, capture_output=True, check=True)
    assert ran.stdout.decode().strip() == "[(1, 10)]"
    assert f"--onnx=model-tensorrt-trt10-{precision}.onnx" in usage
    assert "--maxShapes=image:" in usage


def onnx_job(path: Path, job_sandbox: JobSandbox, tmp_path: Path, **spec: object) -> Done:
    """A job without data on an ONNX file."""
    directory = tmp_path / "job"
    directory.mkdir()
    (directory / "model.onnx").write_bytes(path.read_bytes())
    info = ModelInfo(format="onnx", signature=signature_of(path), parameters=1, nodes=1, operators={})
    order = WorkOrder.model_validate(
        {
            "job": "job_1",
            "attempt": 1,
            "data": {},
            "threads": 1,
            "spec": {"model": MODEL, "evaluate": FAST, **spec},
            "model": ModelFile(path="model.onnx", sha256="0" * 64, bytes=path.stat().st_size, info=info),
        }
    )
    return finished(job_sandbox, order, directory)


def test_four_bits_come_in_blocks_that_tensorrt_has(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    transformer = zoo.export(zoo.TransformerBlock(), tmp_path / "transformer.onnx", {"tokens": tokens}, ["logits"])
    step = {"type": "quantize.weights", "weights": "int4", "symmetric": True, "block": 64}
    exported = onnx_job(transformer, job_sandbox, tmp_path, steps=[step], targets=BOTH)

    for target in exported.report.targets:
        graph = onnx.load(exported.folder / target.artifact).graph
        assert TensorProto.INT4 in {tensor.data_type for tensor in graph.initializer}
        assert target.size.ratio < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_networks_compute_the_same(name: str, of_network: Callable[..., Done]) -> None:
    exported = of_network(name, targets=BOTH)

    for target in exported.report.targets:
        assert target.parity[0].max_abs < 1e-4
        assert target.status == "planned"
    ten, eleven = (onnx.load(exported.folder / target.artifact).graph for target in exported.report.targets)
    assert "Gelu" not in {node.op_type for node in ten.node}, "TensorRT 10.0 does not read it"
    assert ("Gelu" in {node.op_type for node in eleven.node}) == (name == "small_vit")


@pytest.mark.parametrize("name", NAMES)
def test_networks_keep_their_answers_in_half_precision(name: str, of_network: Callable[..., Done]) -> None:
    half = {"format": "tensorrt", "profile": "trt11", "precision": "fp16"}
    (target,) = of_network(name, targets=[half]).report.targets

    assert target.parity[0].sqnr_db is not None
    assert target.parity[0].sqnr_db > 30
    assert target.size.ratio < 0.6
    assert target.layers
