"""A delivered file is valid ONNX, by the format's own checker and by our own admission: it can be uploaded again."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.admission import admit_model
from app.spec.quantize import QuantizeDynamic, QuantizeStatic
from tests.support.engine.orders import changed, lowered, model_of, outputs_of, rows_of, signature_of
from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.topological import sort_nodes

PROFILES = ("x86", "x86-legacy", "arm", "tensorrt")


def require_valid(file: Path) -> None:
    onnx.checker.check_model(file, full_check=True)
    original = admit_model(file, max_inflated_bytes=1 << 30)
    assert original.signature == signature_of(file)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_static_graph(profile, digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    quantized = changed(QuantizeStatic(samples=20), digits_folder / "digits.onnx", tmp_path, digits_calibration)
    require_valid(lowered(quantized.model, profile, tmp_path))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_static_graph_with_branches(profile, resnet18: Path, photos: np.ndarray, tmp_path: Path) -> None:
    quantized = changed(QuantizeStatic(), resnet18, tmp_path, rows_of(tmp_path, image=photos[:2]))
    require_valid(lowered(quantized.model, profile, tmp_path))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_static_transformer(profile, transformer: Path, tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 200, (8, 16))
    quantized = changed(QuantizeStatic(), transformer, tmp_path, rows_of(tmp_path, tokens=tokens))
    require_valid(lowered(quantized.model, profile, tmp_path))


@pytest.mark.parametrize("profile", ["x86", "x86-legacy", "arm"])
@pytest.mark.parametrize("network", ["transformer", "recurrent", "two_inputs"])
def test_a_dynamic_graph(network, profile, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    quantized = changed(QuantizeDynamic(), request.getfixturevalue(network), tmp_path)
    require_valid(lowered(quantized.model, profile, tmp_path))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("network", ["resnet18", "transformer"])
def test_a_pure_export(network, profile, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    original = request.getfixturevalue(network)
    require_valid(lowered(model_of(original, tmp_path), profile, tmp_path))


def conditional(order: list[str], path: Path) -> Path:
    """`y = x + 1` if the sum of x is positive, else `x + 2`; both branches read values of the graph around them."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Identity", [name], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, ["n"])],
        )
        for name in ("then", "else")
    }
    nodes = {
        "constant": helper.make_node("Constant", [], ["zero"], "constant", value_float=0.0),
        "one": helper.make_node("Constant", [], ["one"], "one", value_float=1.0),
        "then": helper.make_node("Add", ["x", "one"], ["then"], "then"),
        "else": helper.make_node("Add", ["then", "one"], ["else"], "else"),
        "sum": helper.make_node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        "positive": helper.make_node("Greater", ["sum", "zero"], ["positive"], "positive"),
        "choose": helper.make_node("If", ["positive"], ["y"], "choose", **branches),
    }
    graph = helper.make_graph(
        [nodes[name] for name in order],
        "conditional",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [value],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_nodes_keep_their_order_where_it_is_right_and_bodies_count(tmp_path: Path) -> None:
    right = ["constant", "one", "then", "else", "sum", "positive", "choose"]
    model = onnx.load(conditional(right, tmp_path / "right.onnx"))
    sort_nodes(model.graph)
    assert [node.name for node in model.graph.node] == right

    wrong = onnx.load(
        conditional(["constant", "sum", "positive", "choose", "else", "then", "one"], tmp_path / "w.onnx")
    )
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(wrong)
    sort_nodes(wrong.graph)
    assert [node.name for node in wrong.graph.node].index("choose") == 6
    onnx.save(wrong, tmp_path / "sorted.onnx")
    onnx.checker.check_model(tmp_path / "sorted.onnx", full_check=True)
    assert outputs_of(tmp_path / "sorted.onnx", {"x": np.float32([1, 2])})[0].tolist() == [2, 3]
    assert outputs_of(tmp_path / "sorted.onnx", {"x": np.float32([-1, -2])})[0].tolist() == [1, 0]
