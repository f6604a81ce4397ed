"""What the runtime executes, and what lies on disk, for real quantized files."""

from collections import Counter
from pathlib import Path

import onnx

from tests.support.engine.measured_models import conv_net, dynamic_int8, images, linear_net, static_int8
from worker.engine.measure.placement import FLOATING, INTEGER, measure_placement, placement_of, rounded_by_runtime
from worker.engine.measure.size import measure_size


def test_qdq_runs_on_integer_kernels(tmp_path: Path) -> None:
    original = conv_net(tmp_path / "f.onnx")
    artifact = static_int8(original, tmp_path / "q.onnx", images(32))

    after = measure_placement(artifact, 1, tmp_path / "scratch")
    before = measure_placement(original, 1, tmp_path / "scratch")

    assert (after.integer, after.floating) == (3, 0)
    assert after.operators["QLinearConv"] == 2
    assert (before.integer, before.floating) == (0, 3)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_one_node_left_in_floating_point_is_seen(tmp_path: Path) -> None:
    original = conv_net(tmp_path / "f.onnx")
    artifact = onnx.load(static_int8(original, tmp_path / "q.onnx", images(32)))
    weights = onnx.helper.make_tensor("extra", onnx.TensorProto.FLOAT, [10, 10], [0.5] * 100)
    artifact.graph.initializer.append(weights)
    artifact.graph.node.append(onnx.helper.make_node("MatMul", ["scores", "extra"], ["more"], "/float"))
    artifact.graph.output[0].name = "more"
    onnx.save(artifact, tmp_path / "mixed.onnx")

    placement = measure_placement(tmp_path / "mixed.onnx", 1, tmp_path / "scratch")

    assert placement.floating == 1
    assert placement.integer >= 2


def test_a_layer_that_the_runtime_rounds_is_told(tmp_path: Path) -> None:
    """A Gemm with float weights between two roundings, and one without a rounding behind it."""
    scale, zero = "scale", "zero"
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", scale, zero], ["xq"]),
        onnx.helper.make_node("DequantizeLinear", ["xq", scale, zero], ["xd"]),
        onnx.helper.make_node("Gemm", ["xd", "weight"], ["y"]),
        onnx.helper.make_node("QuantizeLinear", ["y", scale, zero], ["yq"]),
        onnx.helper.make_node("DequantizeLinear", ["yq", scale, zero], ["yd"]),
        onnx.helper.make_node("Gemm", ["yd", "weight"], ["z"]),
    ]
    constants = [
        onnx.helper.make_tensor(scale, onnx.TensorProto.FLOAT, [], [0.1]),
        onnx.helper.make_tensor(zero, onnx.TensorProto.UINT8, [], [128]),
        onnx.helper.make_tensor("weight", onnx.TensorProto.FLOAT, [4, 4], [0.5] * 16),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in ("x", "z")]
    graph = onnx.helper.make_graph(nodes, "two", ends[:1], ends[1:], constants)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "two.onnx")

    placement = measure_placement(tmp_path / "two.onnx", 1, tmp_path / "scratch")

    assert (placement.integer, placement.floating) == (1, 1)
    (note,) = rounded_by_runtime(tmp_path / "two.onnx", placement)
    assert "1 layer on integers that the file leaves in floating point" in note


def test_files_that_run_as_they_say_get_no_note(tmp_path: Path) -> None:
    original = conv_net(tmp_path / "f.onnx")
    static = static_int8(original, tmp_path / "static.onnx", images(32))
    dynamic = dynamic_int8(linear_net(tmp_path / "g.onnx", layers=2), tmp_path / "dynamic.onnx")

    for file in (original, static, dynamic):
        assert rounded_by_runtime(file, measure_placement(file, 1, tmp_path / "scratch")) == ()


def test_dynamic_products_are_integer(tmp_path: Path) -> None:
    artifact = dynamic_int8(linear_net(tmp_path / "f.onnx", layers=2), tmp_path / "q.onnx")

    placement = measure_placement(artifact, 1, tmp_path / "scratch")

    assert (placement.integer, placement.floating) == (4, 0)


def test_every_operator_is_in_one_table_at_most() -> None:
    assert not INTEGER & FLOATING
    placement = placement_of(Counter({"QLinearConv": 3, "MatMul": 2, "Relu": 9}))
    assert (placement.integer, placement.floating) == (3, 2)
    assert list(placement.operators) == ["Relu", "QLinearConv", "MatMul"]


def test_side_files_count(tmp_path: Path) -> None:
    original = conv_net(tmp_path / "f.onnx")
    apart = tmp_path / "apart.onnx"
    onnx.save(onnx.load(original), apart, save_as_external_data=True, location="apart.data", size_threshold=0)

    size = measure_size(original, apart)

    assert size.before_bytes == original.stat().st_size
    assert size.after_bytes == apart.stat().st_size + (tmp_path / "apart.data").stat().st_size
    assert size.ratio > 0.9
