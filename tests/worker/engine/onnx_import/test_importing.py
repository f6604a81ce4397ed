"""What an imported file keeps, and what is said where no program can be made of one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from app.admission import admit_model
from tests.support.engine.onnx_exports import imported, operators
from worker.engine.onnx_graph.export import export_onnx
from worker.engine.onnx_import.errors import ImportDiffers, NotConstant, OperatorNotImported, SizesFixed
from worker.engine.onnx_import.importing import module_of
from worker.engine.onnx_import.proof import require_same
from worker.engine.onnx_import.reference import examples_of

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
RANDOM = np.random.default_rng(0)
Sizes = Sequence[int | str | None]


def a_file(
    path: Path,
    nodes: list[NodeProto],
    tensors: dict[str, np.ndarray] | None = None,
    inputs: dict[str, Sizes] | None = None,
    outputs: dict[str, Sizes] | None = None,
    opset: int = 17,
) -> Path:
    """A graph of floats; by default from `x` [batch, 8] to `y` [batch, 8]."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, sizes) for name, sizes in (inputs or {"x": ["batch", 8]}).items()],
        [helper.make_tensor_value_info(name, FLOAT, sizes) for name, sizes in (outputs or {"y": ["batch", 8]}).items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (tensors or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def body(nodes: list[NodeProto], outputs: list[str], inputs: dict[str, int] | None = None) -> GraphProto:
    return helper.make_graph(
        nodes,
        "body",
        [
            helper.make_tensor_value_info(name, kind, ["batch", 8] if kind == FLOAT else [])
            for name, kind in (inputs or {}).items()
        ],
        [helper.make_tensor_value_info(name, FLOAT if name != "go" else TensorProto.BOOL, None) for name in outputs],
    )


def test_names_that_a_module_cannot_have(tmp_path: Path) -> None:
    """Dots nest, and what a module has already makes room; a file may call a weight what it likes."""
    names = ["forward", "a", "a.b", "onnx::Mul/1", "a..c", "training"]
    tensors = {name: RANDOM.standard_normal(8).astype(np.float32) for name in names}
    values = ["x", *(f"v{number}" for number in range(len(names) - 1)), "y"]
    nodes = [
        helper.make_node("Mul", [before, name], [after])
        for before, after, name in zip(values[:-1], values[1:], names, strict=True)
    ]
    program = imported(a_file(tmp_path / "names.onnx", nodes, tensors))

    assert len(dict(program.exported.named_parameters())) == 6
    x = RANDOM.standard_normal((4, 8)).astype(np.float32)
    assert np.allclose(program({"x": x})["y"], x * np.prod(list(tensors.values()), axis=0), rtol=1e-5)


def test_inputs_and_outputs_keep_names_and_order(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sub", ["y", "input"], ["x"]), helper.make_node("Neg", ["y"], ["self"])]
    sizes: dict[str, Sizes] = {"y": ["batch", 4], "input": ["batch", 4]}
    outputs: dict[str, Sizes] = {"self": ["batch", 4], "x": ["batch", 4]}
    program = imported(a_file(tmp_path / "named.onnx", nodes, {}, sizes, outputs))
    program.save(tmp_path / "named.pt2")

    saved = admit_model(tmp_path / "named.pt2", max_inflated_bytes=1 << 30).signature
    assert [tensor.name for tensor in saved.inputs] == ["y", "input"]
    assert [tensor.name for tensor in saved.outputs] == ["self", "x"]


def test_a_weight_that_two_operators_read_is_one_parameter(tmp_path: Path) -> None:
    """A tied embedding, which one reads by rows and the other transposed."""
    nodes = [
        helper.make_node("MatMul", ["x", "table"], ["a"]),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["a", "turned"], ["y"]),
    ]
    table = RANDOM.standard_normal((8, 5)).astype(np.float32)
    program = imported(a_file(tmp_path / "tied.onnx", nodes, {"table": table}))

    assert list(dict(program.exported.named_parameters())) == ["table"]


def test_statistics_and_grids_are_buffers(tmp_path: Path) -> None:
    sizes: dict[str, Sizes] = {"x": ["batch", 4, 6, 6]}
    tensors = {name: RANDOM.random(4).astype(np.float32) for name in ("gamma", "beta", "mean", "variance")}
    tensors["anchors"] = RANDOM.random((1, 4, 6, 6)).astype(np.float32)
    nodes = [
        helper.make_node("BatchNormalization", ["x", "gamma", "beta", "mean", "variance"], ["a"]),
        helper.make_node("Mul", ["a", "anchors"], ["y"]),
    ]
    program = imported(a_file(tmp_path / "norm.onnx", nodes, tensors, sizes, {"y": ["batch", 4, 6, 6]}))

    assert set(dict(program.exported.named_parameters())) == {"gamma", "beta"}
    assert set(dict(program.exported.named_buffers())) == {"mean", "variance", "anchors"}
    assert operators(program)["batch_norm"] == 1


def test_a_condition_and_a_count_that_are_known_are_written_out(tmp_path: Path) -> None:
    again = [helper.make_node("Identity", ["going"], ["go"]), helper.make_node("Add", ["v", "one"], ["next"])]
    nodes = [
        helper.make_node(
            "If",
            ["yes"],
            ["a"],
            then_branch=body([helper.make_node("Relu", ["x"], ["r"])], ["r"]),
            else_branch=body([helper.make_node("Sigmoid", ["x"], ["s"])], ["s"]),
        ),
        helper.make_node(
            "Loop",
            ["three", "yes", "a"],
            ["y"],
            body=body(again, ["go", "next"], {"i": INT, "going": TensorProto.BOOL, "v": FLOAT}),
        ),
    ]
    tensors = {"yes": np.array(True), "three": np.array(3), "one": np.array(1, np.float32)}
    program = imported(a_file(tmp_path / "control.onnx", nodes, tensors))

    assert operators(program) == {"relu": 1, "add": 3}


def test_a_condition_that_the_values_decide_selects(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If",
            ["positive"],
            ["y"],
            then_branch=body([helper.make_node("Relu", ["x"], ["r"])], ["r"]),
            else_branch=body([helper.make_node("Sigmoid", ["x"], ["s"])], ["s"]),
        ),
    ]
    program = imported(a_file(tmp_path / "if.onnx", nodes, {"zero": np.array(0, np.float32)}))

    for sign in (1, -1):
        x = np.full((2, 8), sign, np.float32)
        want = x if sign == 1 else 1 / (1 + np.exp(-x))
        assert np.allclose(program({"x": x})["y"], want)


def test_an_old_file_is_upgraded(tmp_path: Path) -> None:
    """Clip, Squeeze and Dropout had attributes for what are inputs today."""
    nodes = [
        helper.make_node("Clip", ["x"], ["a"], min=-0.5, max=0.5),
        helper.make_node("Unsqueeze", ["a"], ["b"], axes=[1]),
        helper.make_node("Dropout", ["b"], ["c"], ratio=0.3),
        helper.make_node("Squeeze", ["c"], ["y"], axes=[1]),
    ]
    model = module_of(onnx.load(a_file(tmp_path / "old.onnx", nodes, opset=9)))
    x = torch.randn(3, 8)

    assert torch.equal(model(x)[0], x.clamp(-0.5, 0.5))


def test_what_was_imported_is_exported_again(tmp_path: Path) -> None:
    """Numbers before tensors, and padding of a varying size, in forms that PyTorch's exporter knows."""
    nodes = [
        helper.make_node("Mul", ["two", "x"], ["a"]),
        helper.make_node("Sub", ["two", "a"], ["b"]),
        helper.make_node("Div", ["two", "b"], ["c"]),
        helper.make_node("Add", ["two", "c"], ["d"]),
        helper.make_node("Pad", ["d", "ends"], ["e"], mode="reflect"),
        helper.make_node("Pad", ["e", "ends"], ["y"], mode="wrap"),
    ]
    tensors = {"two": np.array(2, np.float32), "ends": np.array([0, 3, 0, 2])}
    sizes: dict[str, Sizes] = {"x": ["batch", "length"]}
    program = imported(a_file(tmp_path / "again.onnx", nodes, tensors, sizes, {"y": ["batch", None]}, opset=19))

    export_onnx(program, tmp_path / "exported.onnx", threads=1, seed=0)
    assert (tmp_path / "exported.onnx").exists()


def test_an_operator_without_a_form_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], name="odd", domain="com.example")]
    path = a_file(tmp_path / "odd.onnx", nodes)

    with pytest.raises(OperatorNotImported, match=r"com\.example\.Frobnicate 'odd'"):
        module_of(onnx.load(path))(torch.zeros(2, 8))


def test_a_shape_that_the_values_decide_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["count"], to=INT),
        helper.make_node("Unsqueeze", ["count", "first"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["y"], name="grow"),
    ]
    path = a_file(tmp_path / "values.onnx", nodes, {"first": np.array([0])}, None, {"y": ["n"]})

    with pytest.raises(NotConstant, match="ConstantOfShape 'grow'"):
        imported(path)


def test_a_batch_that_the_graph_fixes_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    path = a_file(tmp_path / "fixed.onnx", nodes, {"shape": np.array([3, 8])})

    with pytest.raises(SizesFixed, match="'batch'"):
        imported(path)


def test_a_difference_names_the_first_node_that_differs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["a"], name="first"),
        helper.make_node("Tanh", ["a"], ["b"], name="second"),
        helper.make_node("Exp", ["b"], ["y"], name="third"),
    ]
    path = a_file(tmp_path / "chain.onnx", nodes, {"two": np.array(2, np.float32)})
    signature = admit_model(path, max_inflated_bytes=1 << 30).signature
    module = module_of(onnx.load(path))
    example = next(examples_of(path, signature, threads=1, seed=0))

    require_same(module, path, example, threads=1)
    second = next(place for place, node in enumerate(module.graph.nodes) if node.name == "second")
    module.graph.nodes[second] = replace(module.graph.nodes[second], op="Sigmoid")
    with pytest.raises(ImportDiffers, match="Sigmoid 'second'"):
        require_same(module, path, example, threads=1)
