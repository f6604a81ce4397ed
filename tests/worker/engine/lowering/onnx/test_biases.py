"""Corrected biases take back what rounding the weights does to the mean of each output channel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from app.spec.quantize import QuantizeStatic
from tests.support.engine import zoo
from tests.support.engine.orders import changed, context, lowered, outputs_of, rows_of, sqnr_db
from worker.engine.data.rows import Rows
from worker.engine.lowering.onnx.biases import dequantized
from worker.engine.model import Model
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.quantization.bias_means import observe_input_means
from worker.engine.quantization.statistics.collector import Collector

RANDOM = np.random.default_rng(0)
IMAGES = (RANDOM.standard_normal((48, 3, 15, 17)) + 1).astype(np.float32)


class Convolutions(nn.Module):
    """Strides, dilations, padding and groups, a bias or none, [rows, 3, 15, 17] to [rows, 8]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(16, 32, (3, 5), padding=(2, 1), stride=2, dilation=(2, 1), groups=4),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.ReLU(),
        )
        self.head = nn.Linear(32, 8)
        for layer in self.features[::2]:  # beside one large weight in each channel the others are rounded coarsely
            layer.weight.data[:, 0, 0, 0] = 5

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).mean((2, 3)))


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("convolutions") / "convolutions.onnx"
    return zoo.export(Convolutions(), path, {"image": torch.zeros(2, 3, 15, 17)}, ["logits"])


def with_all_means(model: Model, rows: Rows, directory: Path) -> Model:
    """With every bias to be corrected, whatever the outputs are the better for."""
    collector = Collector(model.plan.graph)
    means = observe_input_means(collector, model.plan.nodes)
    collector.run(rows, context(directory, rows))
    plan = replace(model.plan, input_means={name: seen.mean() for name, seen in means.items()})
    return replace(model, plan=plan)


def test_means_are_those_of_the_patches(convolutions: Path, tmp_path: Path) -> None:
    """The mean patch times the weight, plus the bias, is the mean of the layer's outputs."""
    rows = rows_of(tmp_path, image=IMAGES)
    plan = with_all_means(changed(QuantizeStatic(), convolutions, tmp_path, rows).model, rows, tmp_path).plan
    graph = onnx.load(plan.graph).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "Conv"]
    model = onnx.load(plan.graph)
    model.graph.output.extend(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in layers)
    onnx.save(model, tmp_path / "all.onnx")
    measured = outputs_of(tmp_path / "all.onnx", {"image": IMAGES})[1:]

    assert len(layers) == 3
    for node, values in zip(layers, measured, strict=True):
        means = plan.input_means[node.name]
        weight = constants[node.input[1]]
        product = np.einsum("goik,gik->go", weight.reshape(len(means), -1, weight.shape[1], means.shape[2]), means)
        bias = constants[node.input[2]] if len(node.input) > 2 else 0
        assert product.reshape(-1) + bias == pytest.approx(values.mean((0, 2, 3)), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("profile", ["x86", "x86-legacy", "arm", "tensorrt"])
def test_outputs_keep_their_mean(profile, convolutions: Path, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, image=IMAGES)
    (exact,) = outputs_of(convolutions, {"image": IMAGES})
    shift, noise = {}, {}
    for corrected in (False, True):
        step = QuantizeStatic(bias_correction=corrected, per_channel=False)
        file = lowered(changed(step, convolutions, tmp_path, rows).model, profile, tmp_path)
        (after,) = outputs_of(file, {"image": IMAGES})
        shift[corrected] = np.abs((after - exact).mean(0)).mean()
        noise[corrected] = sqnr_db(exact, after)

    assert shift[True] < shift[False] / 2
    assert noise[True] > noise[False] + 3


def test_the_bias_behind_a_matrix_product_is_corrected(transformer: Path, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, tokens=RANDOM.integers(0, 200, (64, 16)))

    def added(*, correct: bool) -> list[bytes]:
        model = changed(QuantizeStatic(bias_correction=False), transformer, tmp_path, rows).model
        model = with_all_means(model, rows, tmp_path) if correct else model
        graph = onnx.load(lowered(model, "x86", tmp_path)).graph
        constants = {tensor.name: tensor.raw_data for tensor in graph.initializer}
        vectors = [constants.get(name) for node in graph.node if node.op_type == "Add" for name in node.input]
        assert len(model.plan.input_means) == (9 if correct else 0)
        return [vector for vector in vectors if vector is not None]

    before, after = added(correct=False), added(correct=True)

    assert len(before) == len(after) == 6
    assert all(one != other for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_and_channels_are_dequantized(axis: int) -> None:
    codes = RANDOM.integers(-8, 8, (6, 4)).astype(np.int8)
    scale = RANDOM.random((2, 4) if axis == 0 else (6, 2)).astype(np.float32)
    block = 3 if axis == 0 else 2
    vector = np.arange(1, codes.shape[axis] + 1, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["codes", "scale"], ["blocks"], axis=axis, block_size=block),
            helper.make_node("DequantizeLinear", ["codes", "vector"], ["channels"], axis=axis),
        ],
        "dequantize",
        [],
        [],
        [
            numpy_helper.from_array(codes, "codes"),
            numpy_helper.from_array(scale, "scale"),
            numpy_helper.from_array(vector, "vector"),
        ],
    )
    index = GraphIndex(graph)
    assert dequantized(index, "blocks") == pytest.approx(codes * np.repeat(scale, block, axis))
    assert dequantized(index, "channels") == pytest.approx(codes * (vector[:, None] if axis == 0 else vector))
    assert dequantized(index, "codes") is None
