"""triton: repositories that Triton's own schema reads, around artifacts that were measured on their own runtime."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory, text_format

from app.spec.signature import Dimension, Signature, TensorSpec
from app.spec.targets import TritonTarget
from tests.support.target_jobs import Done, run_usage
from worker.engine.measure.host import Host
from worker.engine.targets.triton.config import config

STATIC = {"type": "quantize.static"}
SCHEMA = Path(__file__).with_name("model_config.binpb")
"""`model_config.proto` of triton-inference-server/common, compiled, as tritonclient 2.73.0 holds it (BSD-3-Clause)."""
BATCH = Dimension(name="batch", min=1, max=64)


def parsed(text: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(SCHEMA.read_bytes())
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()
    return text_format.Parse(text, message)


def kind_of(tensor: Any) -> str:
    return str(tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name)


def test_a_repository_holds_the_artifact_and_its_config(done: Callable[..., Done]) -> None:
    exported = done(steps=[STATIC], targets=[{"format": "triton", "name": "digits", "max_batch_size": 8}])

    target = exported.target("triton/onnx")
    assert target.status == "executed"
    assert target.runtime.startswith("ONNX Runtime")
    assert target.placement.integer == 5
    assert target.parity[0].top1_agreement is not None
    assert target.parity[0].top1_agreement >= 0.99
    assert target.latency != ()
    assert [artifact.file for artifact in exported.result.artifacts] == [
        "model-triton-onnx.zip",
        "USAGE-triton-onnx.md",
    ]
    with zipfile.ZipFile(exported.folder / "model-triton-onnx.zip") as archive:
        assert archive.namelist() == ["digits/config.pbtxt", "digits/1/model.onnx"]
        server = parsed(archive.read("digits/config.pbtxt").decode())
        archive.extractall(exported.folder / "model_repository")
    assert (server.name, server.backend, server.max_batch_size) == ("digits", "onnxruntime", 8)
    assert server.default_model_filename == "model.onnx"
    assert [(tensor.name, kind_of(tensor), list(tensor.dims)) for tensor in server.input] == [
        ("image", "TYPE_FP32", [1, 8, 8])
    ]
    assert [(tensor.name, kind_of(tensor), list(tensor.dims)) for tensor in server.output] == [
        ("logits", "TYPE_FP32", [10])
    ]
    assert server.dynamic_batching.max_queue_delay_microseconds == 100
    assert [(group.count, group.kind) for group in server.instance_group] == [(1, 2)], "KIND_CPU"
    assert ran_usage(exported.folder, "USAGE-triton-onnx.md") == "[(1, 10)]"


@pytest.mark.toolchain("openvino")
def test_a_repository_for_openvino_runs_on_openvino(done: Callable[..., Done]) -> None:
    exported = done(targets=[{"format": "triton", "backend": "openvino"}])

    target = exported.target("triton/openvino")
    assert target.runtime.startswith("OpenVINO")
    assert target.parity[0].max_abs < 1e-4
    with zipfile.ZipFile(exported.folder / "model-triton-openvino.zip") as archive:
        assert archive.namelist() == ["model/config.pbtxt", "model/1/model.xml", "model/1/model.bin"]
        server = parsed(archive.read("model/config.pbtxt").decode())
        archive.extractall(exported.folder / "model_repository")
    assert (server.backend, server.default_model_filename) == ("openvino", "model.xml")
    ending = "\nprint({name: array.shape for name, array in outputs.items()})"
    assert run_usage(exported.folder, "openvino", "USAGE-triton-openvino.md", ending) == "{'logits': (1, 10)}"


def test_an_engine_for_tensorrt_is_built_on_the_server(done: Callable[..., Done]) -> None:
    exported = done(targets=[{"format": "triton", "backend": "tensorrt", "max_batch_size": 4096}])

    assert exported.target("triton/tensorrt").status == "planned"
    with zipfile.ZipFile(exported.folder / "model-triton-tensorrt.zip") as archive:
        server = parsed(archive.read("model/config.pbtxt").decode())
    assert (server.platform, server.default_model_filename) == ("tensorrt_plan", "model.engine")
    assert [group.kind for group in server.instance_group] == [1], "KIND_GPU"
    usage = (exported.folder / "USAGE-triton-tensorrt.md").read_text()
    assert "--saveEngine=model_repository/model/1/model.engine" in usage
    assert f"maxShapes=image:{server.max_batch_size}x1x8x8" in usage, "the engine takes what the server may send"


def test_tensors_that_share_no_batch_are_left_as_they_come() -> None:
    fixed = Signature(
        inputs=(TensorSpec(name='the "image"', dtype="uint8", shape=(1, Dimension(name="height"), 4)),),
        outputs=(TensorSpec(name="score", dtype="bool", shape=()),),
    )

    server = parsed(config(TritonTarget(), fixed))

    assert server.max_batch_size == 0
    assert not server.HasField("dynamic_batching")
    assert [(tensor.name, kind_of(tensor), list(tensor.dims)) for tensor in server.input] == [
        ('the "image"', "TYPE_UINT8", [1, -1, 4])
    ]
    assert list(server.output[0].dims) == [1]
    assert server.output[0].HasField("reshape")


def test_a_batch_has_the_models_own_bound() -> None:
    free = Signature(
        inputs=(TensorSpec(name="x", dtype="int64", shape=(BATCH, Dimension(name="tokens"))),),
        outputs=(TensorSpec(name="y", dtype="float16", shape=(BATCH,)),),
    )

    server = parsed(config(TritonTarget(max_batch_size=100, instances=2, max_queue_delay_us=7), free))

    assert (server.max_batch_size, server.instance_group[0].count) == (64, 2)
    assert server.dynamic_batching.max_queue_delay_microseconds == 7
    assert list(server.input[0].dims) == [-1]
    assert server.output[0].HasField("reshape")
    assert parsed(config(TritonTarget(max_batch_size=0), free)).max_batch_size == 0


@pytest.mark.parametrize("backend", ["onnx", "openvino", "tensorrt"])
def test_what_the_inner_target_lacks_is_lacking(backend: str) -> None:
    target = TritonTarget(backend=backend)

    assert target.lacks == target.inner.lacks
    assert Host("x86_64", 2).represents(target) == Host("x86_64", 2).represents(target.inner)


def ran_usage(folder: Path, usage: str) -> str:
    code = (folder / usage).read_text().partition("```python\n")[2].partition("```")[0]
    command = [sys.executable, "-c", code + "\nprint([array.shape for array in outputs])"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
