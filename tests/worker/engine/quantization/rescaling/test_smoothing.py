"""Smoothed transformers compute what they did, and their outlier channels survive 8 bits."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from app.spec.quantize import QuantizeStatic
from tests.support.engine import zoo
from tests.support.engine.orders import changed, executed, lowered, outputs_of, rows_of, sqnr_db

RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 200, (64, 16))


def with_outliers() -> zoo.TransformerBlock:
    """Three channels behind each normalization are 60 times as large as the others, and weigh as little more."""
    model = zoo.TransformerBlock()
    for layer in model.encoder.layers:
        for norm, weight in ((layer.norm1, layer.self_attn.in_proj_weight), (layer.norm2, layer.linear1.weight)):
            norm.weight.data = torch.rand(64) + 0.5
            norm.bias.data = 0.1 * torch.randn(64)
            norm.weight.data[[5, 17, 40]] *= 60
            weight.data[:, [5, 17, 40]] /= 30
    return model


@pytest.fixture(scope="module")
def outliers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outliers") / "outliers.onnx"
    return zoo.export(with_outliers(), path, {"tokens": torch.zeros(2, 16, dtype=torch.int64)}, ["logits"])


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8])
def test_the_float_function_stays(alpha: float, outliers: Path, tmp_path: Path) -> None:
    step = QuantizeStatic(smooth=True, smooth_alpha=alpha)
    quantized = changed(step, outliers, tmp_path, rows_of(tmp_path, tokens=TOKENS))

    (before,), (after,) = (outputs_of(path, {"tokens": TOKENS}) for path in (outliers, quantized.model.plan.graph))
    assert np.abs(before - after).max() < 1e-5 * np.abs(before).max()
    assert quantized.facts["smoothed_groups"] == 4
    assert quantized.facts["largest_smoothing"] > 5


def test_quantization_loses_less(outliers: Path, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, tokens=TOKENS)
    (exact,) = outputs_of(outliers, {"tokens": TOKENS})
    noise, operators = {}, {}
    for smooth in (False, True):
        file = lowered(changed(QuantizeStatic(smooth=smooth), outliers, tmp_path, rows).model, "x86", tmp_path)
        noise[smooth] = sqnr_db(exact, outputs_of(file, {"tokens": TOKENS})[0])
        operators[smooth] = executed(file, tmp_path)

    assert noise[True] > noise[False] + 5
    assert operators[True] == operators[False], "nothing is added to the graph"


def test_a_residual_stream_is_no_group(tmp_path: Path) -> None:
    """In a network that normalizes behind the addition, as BERT does, the stream itself is the output."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True, norm_first=False)
    path = zoo.export(layer, tmp_path / "post.onnx", {"stream": torch.zeros(2, 16, 64)}, ["result"])
    stream = RANDOM.standard_normal((16, 16, 64)).astype(np.float32)

    quantized = changed(QuantizeStatic(smooth=True), path, tmp_path, rows_of(tmp_path, stream=stream))

    assert quantized.facts["smoothed_groups"] == 0


def normalized(path: Path) -> Path:
    """A normalization written out as Mul and Add, with a scale that two of them share, on [rows, 16]."""
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["a"], "first"),
        helper.make_node("Add", ["a", "shift"], ["b"], "shifted"),
        helper.make_node("MatMul", ["b", "w"], ["c"], "product"),
        helper.make_node("Abs", ["x"], ["z"], "magnitude"),
        helper.make_node("Mul", ["z", "scale"], ["d"], "second"),
        helper.make_node("MatMul", ["d", "v"], ["e"], "other"),
        helper.make_node("Add", ["c", "e"], ["y"], "sum"),
    ]
    scale = np.ones(16, np.float32)
    scale[3] = 100
    constants = {
        "scale": scale,
        "shift": RANDOM.standard_normal(16).astype(np.float32),
        "w": RANDOM.standard_normal((16, 32)).astype(np.float32),
        "v": RANDOM.standard_normal((16, 32)).astype(np.float32) / 10,
    }
    graph = helper.make_graph(
        nodes,
        "normalized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_normalization_written_out_and_a_shared_scale(tmp_path: Path) -> None:
    path = normalized(tmp_path / "normalized.onnx")
    x = RANDOM.standard_normal((64, 16)).astype(np.float32)

    quantized = changed(QuantizeStatic(smooth=True), path, tmp_path, rows_of(tmp_path, x=x))

    (before,), (after,) = (outputs_of(path, {"x": x}) for path in (path, quantized.model.plan.graph))
    assert quantized.facts["smoothed_groups"] == 2
    assert np.abs(before - after).max() < 1e-5 * np.abs(before).max()
