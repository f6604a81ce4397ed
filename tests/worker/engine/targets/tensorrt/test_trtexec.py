"""The commands that build and time an engine."""

import shlex

import pytest

from app.spec.signature import Dimension, Signature, TensorSpec
from worker.engine.targets.tensorrt.releases import RELEASES
from worker.engine.targets.tensorrt.trtexec import build_command, shape_ranges, time_command

REMOVED = ("--fp16", "--int8", "--int4", "--bf16", "--best", "--calib", "--stronglyTyped")
"""By TensorRT 11."""
BATCH = Dimension(name="batch")


def signature(**shapes: tuple[int | Dimension, ...]) -> Signature:
    inputs = tuple(TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in shapes.items())
    return Signature(inputs=inputs, outputs=inputs[:1])


IMAGES = signature(image=(BATCH, 3, 224, 224))


def test_ten_is_told_the_types_of_the_graph_and_eleven_reads_them() -> None:
    ten = shlex.split(build_command("m.onnx", RELEASES["trt10"], IMAGES, ("fp16", "int8")))
    eleven = shlex.split(build_command("m.onnx", RELEASES["trt11"], IMAGES, ("fp16", "int8")))

    assert ten[0] == "trtexec"
    assert {"--onnx=m.onnx", "--saveEngine=m.engine", "--memPoolSize=workspace:1024", "--fp16", "--int8"} <= set(ten)
    assert not set(REMOVED) & set(eleven)
    assert not any(option.startswith(("--workspace", "--explicitBatch")) for option in (*ten, *eleven)), "removed by 10"
    assert set(eleven) == set(ten) - set(REMOVED)


def test_shapes_have_a_smallest_a_usual_and_a_largest() -> None:
    command = shlex.split(build_command("m.onnx", RELEASES["trt11"], IMAGES, ()))

    assert "--minShapes=image:1x3x224x224" in command
    assert "--optShapes=image:8x3x224x224" in command
    assert "--maxShapes=image:32x3x224x224" in command
    assert "--shapes=image:8x3x224x224" in shlex.split(time_command("m.onnx", IMAGES))


@pytest.mark.parametrize(
    ("dimension", "sizes"),
    [
        (Dimension(name="n"), (1, 8, 32)),
        (Dimension(name="n", min=2, max=4), (2, 4, 4)),
        (Dimension(name="n", min=0, max=1024), (1, 8, 1024)),
        (Dimension(name="n", min=64), (64, 64, 64)),
    ],
)
def test_bounds_of_the_model_are_bounds_of_the_engine(dimension: Dimension, sizes: tuple[int, ...]) -> None:
    assert shape_ranges(signature(x=(dimension, 4)))["x"] == tuple((size, 4) for size in sizes)


def test_a_fixed_model_has_no_shapes() -> None:
    fixed = signature(image=(1, 3, 8, 8))

    assert "Shapes" not in build_command("m.onnx", RELEASES["trt10"], fixed, ())
    assert "--shapes" not in time_command("m.onnx", fixed)


def test_inputs_of_all_names_reach_the_program_whole() -> None:
    several = signature(**{"input:0": (BATCH, 4), "it's": (BATCH, Dimension(name="length")), "fixed": (4,)})
    command = shlex.split(build_command("m.onnx", RELEASES["trt10"], several, ()))

    assert "--optShapes='input:0':8x4,it's:8x128" in command
