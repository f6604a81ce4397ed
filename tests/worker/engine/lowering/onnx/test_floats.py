"""What a plan leaves in floating point is computed in floating point, whatever lies around it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from app.spec.quantize import QuantizeStatic, Skip
from tests.support.engine.orders import changed, executed, lowered, outputs_of, rows_of, sqnr_db
from worker.engine.measure.placement import placement_of
from worker.engine.model import Model
from worker.engine.plan.selection import WEIGHTED

CHANNELS = 8
FRAGILE = 100
"""The weights for an input that is always 0: with one scale for all weights, the others round to 0."""


class Layers:
    """A graph under construction, from `x`, of layers that keep the shape of their input."""

    def __init__(self, operator: str) -> None:
        self.operator, self.nodes, self.weights = operator, list[NodeProto](), dict[str, np.ndarray]()
        self.convolves = operator.startswith("Conv")
        self.random = np.random.default_rng(0)

    def layer(self, name: str, reads: str, *, bias: bool = True, fragile: bool = False, feeds: bool = False) -> str:
        """Append a layer, whose value has its name; one that is `fragile` reads what another `feeds`."""
        shape = (CHANNELS, CHANNELS, *((3, 3) if self.convolves else ()))
        weight = self.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        turned = weight.swapaxes(0, 1)
        inputs, outputs = (turned, weight) if self.operator == "Conv" else (weight, turned)
        shift = self.random.standard_normal(CHANNELS)
        if fragile:
            inputs[0] = FRAGILE
        if feeds:
            outputs[0] = shift[0] = 0
        names = [f"{name}.weight", f"{name}.bias"]
        self.weights |= dict(zip(names, (weight.astype(np.float32), shift.astype(np.float32)), strict=True))
        if self.operator == "MatMul" and bias:
            self.node("MatMul", [reads, names[0]], f"{name}.product", name)
            return self.node("Add", [f"{name}.product", names[1]], name, f"{name}.add")
        given = {"pads": [1, 1, 1, 1]} if self.convolves else {}
        return self.node(self.operator, [reads, *names[: 1 + bias]], name, name, **given)

    def node(self, operator: str, reads: Sequence[str], value: str, name: str = "", **given: Sequence[int]) -> str:
        self.nodes.append(helper.make_node(operator, reads, [value], name or value, **given))
        return value

    def saved(self, path: Path) -> Path:
        """Write the graph, whose output is the last node's."""
        shape = ["n", CHANNELS, 6, 6] if self.convolves else ["n", CHANNELS]
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            "layers",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(self.nodes[-1].output[0], TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items() if name in used],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return path


def chain(operator: str, clamp: str, path: Path, *, bias: bool = True, fragile: int = -1) -> Path:
    """Four layers, each behind the other; for the fragile one, the layer before it makes an output of zeros."""
    made, value = Layers(operator), "x"
    for place in range(4):
        value = made.layer(f"layer{place}", value, bias=bias, fragile=place == fragile, feeds=place == fragile - 1)
        if clamp and place < 3:
            value = made.node(clamp, [value], f"clamped{place}")
    return made.saved(path)


def quantized(graph: Path, skip: Skip, folder: Path) -> tuple[Model, np.ndarray]:
    """The model and the rows it was calibrated on."""
    (given,) = onnx.load(graph).graph.input
    shape = [size.dim_value for size in given.type.tensor_type.shape.dim][1:]
    rows = np.random.default_rng(1).standard_normal((64, *shape), np.float32)
    return changed(QuantizeStatic(skip=skip), graph, folder, rows_of(folder, x=rows)).model, rows


def kernels(model: Model, profile: str, folder: Path) -> tuple[int, int]:
    """Layers that are executed on integers and in floating point."""
    placement = placement_of(executed(lowered(model, profile, folder), folder, as_on_arm=profile == "arm"))
    return placement.integer, placement.floating


def noise(graph: Path, file: Path, rows: np.ndarray) -> float:
    """In decibels."""
    return sqnr_db(outputs_of(graph, {"x": rows})[0], outputs_of(file, {"x": rows})[0])


@pytest.mark.parametrize("kept", [(0,), (1,), (3,), (1, 2)], ids=["first", "middle", "last", "two"])
@pytest.mark.parametrize("clamp", ["", "Relu"])
@pytest.mark.parametrize(
    ("operator", "bias"),
    [("Conv", True), ("Conv", False), ("Gemm", True), ("Gemm", False), ("MatMul", True), ("MatMul", False)],
)
def test_as_many_layers_are_integer_as_the_plan_says(operator, bias, clamp, kept, tmp_path: Path) -> None:
    skip = Skip(nodes=tuple(f"layer{place}" for place in kept))
    model, _ = quantized(chain(operator, clamp, tmp_path / "chain.onnx", bias=bias), skip, tmp_path)

    for profile in ("x86", "x86-legacy", "arm"):
        assert kernels(model, profile, tmp_path) == (4 - len(kept), len(kept)), profile


@pytest.mark.parametrize("profile", ["x86", "arm", "tensorrt"])
@pytest.mark.parametrize("clamp", ["", "Relu"])
@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
def test_a_fragile_layer_that_is_skipped_keeps_its_weights(operator, clamp, profile, tmp_path: Path) -> None:
    graph = chain(operator, clamp, tmp_path / "chain.onnx", fragile=1)
    model, rows = quantized(graph, Skip(nodes=("layer1",)), tmp_path)

    assert noise(graph, lowered(model, profile, tmp_path), rows) > 20


@pytest.mark.parametrize("profile", ["x86", "arm", "tensorrt"])
def test_what_moves_data_hides_no_layer(profile, tmp_path: Path) -> None:
    """The runtime swaps a Transpose that is not quantized with the DequantizeLinear before it."""
    made = Layers("Conv")
    first = made.layer("first", "x", feeds=True)
    turned = made.node("Transpose", [first], "turned", perm=[0, 1, 3, 2])
    made.layer("last", made.layer("kept", turned, fragile=True))
    graph = made.saved(tmp_path / "turned.onnx")

    model, rows = quantized(graph, Skip(nodes=("kept", "turned")), tmp_path)

    assert noise(graph, lowered(model, profile, tmp_path), rows) > 20
    if profile != "tensorrt":
        assert kernels(model, profile, tmp_path) == (2, 1)


@pytest.mark.parametrize("profile", ["x86", "arm", "tensorrt"])
@pytest.mark.parametrize("operator", ["Conv", "Gemm", "MatMul"])
def test_a_value_that_integer_layers_read_too(operator, profile, tmp_path: Path) -> None:
    """Two layers in floating point beside an integer one; TensorRT's file shows them the value before it is rounded."""
    made = Layers(operator)
    shared = made.node("Relu", [made.layer("first", "x", feeds=True)], "shared")
    branches = [made.layer(f"kept{place}", shared, fragile=True) for place in range(2)]
    lasts = [made.layer(f"last{place}", branch) for place, branch in enumerate(branches)]
    both = made.node("Mul", lasts, "both")
    made.node("Mul", [both, made.layer("integer", shared)], "y")
    graph = made.saved(tmp_path / "branches.onnx")

    model, rows = quantized(graph, Skip(nodes=("kept0", "kept1")), tmp_path)
    file = lowered(model, profile, tmp_path)

    assert noise(graph, file, rows) > 20
    if profile != "tensorrt":
        assert kernels(model, profile, tmp_path) == (4, 2)
        return
    nodes = onnx.load(file).graph.node
    made_by = {name: node.op_type for node in nodes for name in node.output}
    kept = [node for node in nodes if node.op_type in WEIGHTED and node.name.startswith("kept")]
    assert [made_by[node.input[0]] for node in kept] == ["Relu", "Relu"]


def test_dequantizing_by_channel_gives_the_same_numbers(tmp_path: Path) -> None:
    """Two readers share it, and every value stays what the one scale would have made of it."""
    made = Layers("Conv")
    shared = made.layer("first", "x")
    branches = [made.layer(f"kept{place}", shared) for place in range(2)]
    made.node("Mul", branches, "y")
    model, _ = quantized(made.saved(tmp_path / "two.onnx"), Skip(nodes=("kept0", "kept1")), tmp_path)

    graph = onnx.load(lowered(model, "x86", tmp_path)).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    (repeated,) = (node for node in graph.node if node.output[0] == "first/by_channel")
    (single,) = (node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "first")

    assert repeated.input[0] == single.output[0]
    for vector, number in zip(repeated.input[1:], single.input[1:], strict=True):
        assert constants[vector].shape == (CHANNELS,)
        assert set(constants[vector]) == {constants[number].item()}


def test_a_resnet_keeps_one_convolution(resnet18: Path, photos: np.ndarray, tmp_path: Path) -> None:
    skipped = [node.name for node in onnx.load(resnet18).graph.node if node.op_type == "Conv"][9]
    quantize = QuantizeStatic(skip=Skip(nodes=(skipped,)))
    model = changed(quantize, resnet18, tmp_path, rows_of(tmp_path, image=photos)).model

    operators = executed(lowered(model, "x86", tmp_path), tmp_path)

    assert operators["QLinearConv"] == 19
    assert operators["QLinearAdd"] == 7, "one addition has a term in floating point"
    assert operators["Conv"] + operators["FusedConv"] == 1
