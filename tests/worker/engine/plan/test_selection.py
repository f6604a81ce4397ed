"""What is chosen for 8 bits, and why nothing is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.spec.base import Step
from app.spec.quantize import QuantizeDynamic, QuantizeStatic, Skip
from tests.support.engine.orders import changed, executed, lowered, outputs_of, rows_of, sqnr_db
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.selection import require_weights_outside_of_branches

RANDOM = np.random.default_rng(0)
TYPES = {"float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE, "float32": TensorProto.FLOAT}


def clamped(path: Path, dtype: str = "float32", *, clamp: str = "Relu") -> Path:
    """Two matrix products on [n, 16] with a clamp between them; inputs and outputs are float32."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["typed"], "cast", to=TYPES[dtype]),
            helper.make_node("MatMul", ["typed", "first"], ["a"], "product"),
            helper.make_node(clamp, ["a", "low", "high"] if clamp == "Clip" else ["a"], ["b"], "clamp"),
            helper.make_node("MatMul", ["b", "second"], ["c"], "last"),
            helper.make_node("Cast", ["c"], ["y"], "back", to=TensorProto.FLOAT),
        ],
        "clamped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [
            numpy_helper.from_array(np.random.default_rng(1).standard_normal((16, 32)).astype(dtype), "first"),
            numpy_helper.from_array(np.random.default_rng(2).standard_normal((32, 4)).astype(dtype), "second"),
            numpy_helper.from_array(np.array(0, dtype), "low"),
            numpy_helper.from_array(np.array(6, dtype), "high"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("step", [QuantizeStatic(), QuantizeDynamic()])
def test_weights_of_another_type_are_named(step: Step, dtype: str, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, x=np.zeros((8, 16), np.float32))
    with pytest.raises(NothingToQuantize, match=f"{dtype}; only float32") as caught:
        changed(step, clamped(tmp_path / "model.onnx", dtype), tmp_path, rows)
    assert caught.value.remedy == "Export the model in float32."


@pytest.mark.parametrize("clamp", ["Relu", "Clip"])
def test_a_clamp_behind_a_product_vanishes_into_its_codes(clamp: str, tmp_path: Path) -> None:
    x = RANDOM.standard_normal((64, 16)).astype(np.float32)
    path = clamped(tmp_path / "model.onnx", clamp=clamp)

    quantized = changed(QuantizeStatic(), path, tmp_path, rows_of(tmp_path, x=x))
    file = lowered(quantized.model, "x86", tmp_path)

    assert "clamp" in quantized.model.plan.nodes
    operators = executed(file, tmp_path)
    assert operators["QLinearMatMul"] == 2
    assert not operators.keys() & {"Relu", "Clip"}
    assert quantized.model.plan.ranges["a"] == quantized.model.plan.ranges["b"]
    assert sqnr_db(outputs_of(path, {"x": x})[0], outputs_of(file, {"x": x})[0]) > 25


def unnamed(path: Path) -> Path:
    """MatMul, Add, Relu, Gemm on [n, 16]; no node has a name."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["a"]),
            helper.make_node("Add", ["a", "shift"], ["b"]),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("Gemm", ["c", "second"], ["y"]),
        ],
        "unnamed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [
            numpy_helper.from_array(np.random.default_rng(1).standard_normal((16, 32)).astype(np.float32), "first"),
            numpy_helper.from_array(np.ones(32, np.float32), "shift"),
            numpy_helper.from_array(np.random.default_rng(2).standard_normal((32, 4)).astype(np.float32), "second"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("operator", ["MatMul", "Add"])
@pytest.mark.parametrize("step", [QuantizeStatic, QuantizeDynamic])
def test_an_operator_without_a_name_is_skipped_inside_what_it_was_fused_into(
    step: type[QuantizeStatic | QuantizeDynamic], operator: str, tmp_path: Path
) -> None:
    """Preparation makes one Gemm of the MatMul and the Add; the second product stays chosen."""
    path = unnamed(tmp_path / "model.onnx")
    rows = rows_of(tmp_path, x=RANDOM.standard_normal((32, 16)).astype(np.float32))

    quantized = changed(step(skip=Skip(operators=(operator,))), path, tmp_path, rows)

    assert quantized.facts["quantized_nodes"] == 1
    assert quantized.facts["skipped_nodes"] == 1
    weights = onnx.load(lowered(quantized.model, "x86", tmp_path)).graph.initializer
    assert {tensor.name: tensor.data_type for tensor in weights}["first"] == TensorProto.FLOAT


@pytest.mark.parametrize("inside", ["initializer", "node", "outer"])
def test_weights_inside_of_a_branch_are_said_to_be_there(inside: str) -> None:
    weight = numpy_helper.from_array(RANDOM.standard_normal((32, 32)).astype(np.float32), "w")

    def branch(name: str) -> onnx.GraphProto:
        nodes = [helper.make_node("MatMul", ["x", "w"], [f"y_{name}"], f"product_{name}")]
        if inside == "node":
            nodes.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
        output = helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [output], [weight] if inside == "initializer" else [])

    choice = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch("then"), else_branch=branch("else"))
    graph = helper.make_graph([choice], "g", [], [], [weight] if inside == "outer" else [])

    with pytest.raises(NothingToQuantize, match=r"inside of a branch.*'choice'.*product_else.*first of 2"):
        require_weights_outside_of_branches(graph)


def test_a_graph_without_branches_has_no_weights_there() -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = numpy_helper.from_array(np.ones((32, 32), np.float32), "w")

    require_weights_outside_of_branches(helper.make_graph([product], "g", [], [], [weight]))
