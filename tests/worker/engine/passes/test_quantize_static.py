"""Static quantization measures ranges that targets can lower, keeps what it is told to keep, and says what it did."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from app.spec.quantize import OBSERVERS, QuantizeStatic, Skip
from tests.support.engine import zoo
from tests.support.engine.orders import changed, context, executed, lowered, model_of, outputs_of, rows_of, sqnr_db
from worker.engine.data.rows import Rows
from worker.engine.model import Model
from worker.engine.passes.table import apply_step
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.selection import UnknownNode
from worker.engine.quantization.errors import CalibrationFailed
from worker.engine.torch_program.program import Program


def top1(model: Path, rows: Rows) -> float:
    hits = [outputs_of(model, inputs)[0].argmax(1) == labels for inputs, labels in rows.batches(128)]
    return float(np.concatenate(hits).mean())


@pytest.mark.parametrize("profile", ["x86", "x86-legacy", "arm", "tensorrt"])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_digits_shrink_to_a_quarter_and_keep_their_accuracy(
    observer, profile, digits_folder: Path, digits_calibration: Rows, digits_test: Rows, tmp_path: Path
) -> None:
    original = digits_folder / "digits.onnx"
    quantized = changed(QuantizeStatic(observer=observer), original, tmp_path, digits_calibration)
    file = lowered(quantized.model, profile, tmp_path)

    before = top1(original, digits_test)
    assert before >= 0.97
    assert before - top1(file, digits_test) <= 0.003
    assert file.stat().st_size <= 0.30 * original.stat().st_size


def test_digits_are_integer_from_end_to_end(digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    quantized = changed(QuantizeStatic(), digits_folder / "digits.onnx", tmp_path, digits_calibration)

    operators = executed(lowered(quantized.model, "x86", tmp_path), tmp_path)

    assert operators["QLinearConv"] == 3
    assert operators["QGemm"] == 2
    assert not operators.keys() & {"Conv", "FusedConv", "Gemm", "FusedGemm", "Relu"}
    assert operators["QuantizeLinear"] <= 2


def opened(name: str, form: str, graph: Path, directory: Path) -> Model:
    """A torchvision network as an upload of ONNX or of a program."""
    model = model_of(graph, directory)
    if form == "onnx":
        return model
    exported = zoo.program(zoo.resnet(name), torch.zeros(2, 3, 64, 64))
    return replace(model, source=Program(exported, model.signature))


@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.extended)])  # moved: resnet50
def test_every_convolution_of_a_resnet_is_integer(name, form, request, photos: np.ndarray, tmp_path: Path) -> None:
    """From the image to the logits: outputs of convolutions and residual additions, too."""
    graph = request.getfixturevalue(name)
    model, rows = opened(name, form, graph, tmp_path), rows_of(tmp_path, image=photos)
    quantized = apply_step(QuantizeStatic(), model, context(tmp_path, rows))
    file = lowered(quantized.model, "x86", tmp_path)

    operators = executed(file, tmp_path)

    convolutions, additions = {"resnet18": (20, 8), "resnet50": (53, 16)}[name]
    assert operators["QLinearConv"] == convolutions
    assert operators["QLinearAdd"] == additions
    assert not operators.keys() & {"Conv", "FusedConv", "Add", "Relu"}
    assert operators["QuantizeLinear"] + operators["DequantizeLinear"] <= 4, (
        "the image, and what follows the last layer"
    )
    assert file.stat().st_size < 0.27 * graph.stat().st_size
    noise = sqnr_db(outputs_of(graph, {"image": photos})[0], outputs_of(file, {"image": photos})[0])
    assert noise > 25


def test_observers_choose_different_ranges(digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    plans = {
        name: changed(
            QuantizeStatic(observer=name, percentile=99), digits_folder / "digits.onnx", tmp_path, digits_calibration
        ).model.plan
        for name in OBSERVERS
    }

    assert len({tuple(plan.ranges.items()) for plan in plans.values()}) == 5
    for name, widest in plans["minmax"].ranges.items():
        for observer in plans:
            inner = plans[observer].ranges[name]
            assert widest.low <= inner.low <= 0 <= inner.high <= widest.high


def test_minmax_is_the_true_extreme_of_every_activation(
    digits_folder: Path, digits_calibration: Rows, tmp_path: Path
) -> None:
    """Against a plain run of the unoptimized graph with every watched value as an output."""
    quantized = changed(QuantizeStatic(), digits_folder / "digits.onnx", tmp_path, digits_calibration)
    model = onnx.load(quantized.model.plan.graph)
    inner = [node.output[0] for node in model.graph.node if node.op_type in ("Relu", "MaxPool")]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner)
    onnx.save(model, tmp_path / "all.onnx")

    batches = [outputs_of(tmp_path / "all.onnx", inputs)[1:] for inputs, _ in digits_calibration.batches(512)]

    assert len(inner) >= 5
    for position, name in enumerate(inner):
        values = np.concatenate([batch[position].reshape(-1) for batch in batches])
        found = quantized.model.plan.ranges[name]
        assert (found.low, found.high) == pytest.approx((min(values.min(), 0), values.max()), rel=1e-5)


def test_samples_are_limited(digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    quantized = changed(QuantizeStatic(samples=20), digits_folder / "digits.onnx", tmp_path, digits_calibration)
    assert quantized.facts["samples"] == 20
    assert quantized.model.plan.samples == 20


def test_skipped_nodes_stay_in_floating_point(digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    original = digits_folder / "digits.onnx"
    first = next(node.name for node in onnx.load(original).graph.node if node.op_type == "Conv")
    skip = Skip(nodes=(first,), operators=("Gemm",))

    quantized = changed(QuantizeStatic(skip=skip), original, tmp_path, digits_calibration)
    operators = executed(lowered(quantized.model, "x86", tmp_path), tmp_path)

    assert operators["QLinearConv"] == 2
    assert operators["Conv"] + operators["FusedConv"] == 1
    assert operators["QGemm"] == 0
    assert quantized.facts["skipped_nodes"] == 3


def test_a_pattern_skips_what_it_matches(digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    skip = Skip(nodes=("node_Conv*",))
    quantized = changed(QuantizeStatic(skip=skip), digits_folder / "digits.onnx", tmp_path, digits_calibration)
    operators = executed(lowered(quantized.model, "x86", tmp_path), tmp_path)
    assert operators["QLinearConv"] == 0
    assert operators["QGemm"] == 2


def test_an_unmatched_pattern_names_what_is_close(
    digits_folder: Path, digits_calibration: Rows, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNode, match=r"similar: .*node_Conv"):
        changed(
            QuantizeStatic(skip=Skip(nodes=("node_Con_2",))),
            digits_folder / "digits.onnx",
            tmp_path,
            digits_calibration,
        )
    with pytest.raises(UnknownNode, match=r"similar: .*Conv"):
        changed(
            QuantizeStatic(skip=Skip(operators=("conv",))), digits_folder / "digits.onnx", tmp_path, digits_calibration
        )


def test_nothing_left_is_an_error(digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    skip = Skip(operators=("Conv", "Gemm"))
    with pytest.raises(NothingToQuantize):
        changed(QuantizeStatic(skip=skip), digits_folder / "digits.onnx", tmp_path, digits_calibration)


def test_no_rows_is_an_error(digits_folder: Path, tmp_path: Path) -> None:
    empty = rows_of(tmp_path, image=np.zeros((0, 1, 8, 8), np.float32))
    with pytest.raises(CalibrationFailed, match="no calibration rows"):
        changed(QuantizeStatic(), digits_folder / "digits.onnx", tmp_path, empty)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(poison, digits_folder: Path, tmp_path: Path) -> None:
    images = np.zeros((40, 1, 8, 8), np.float32)
    images[33, 0, 4, 4] = poison
    with pytest.raises(CalibrationFailed, match="not finite"):
        changed(QuantizeStatic(), digits_folder / "digits.onnx", tmp_path, rows_of(tmp_path, image=images))


def dense(path: Path, *, rows: int | str = "n", bias: float = 0.0) -> Path:
    """MatMul, Add, Relu, MatMul on [rows, 16]; the first node has no name."""
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["a"]),
            helper.make_node("Add", ["a", "shift"], ["b"], "shifted"),
            helper.make_node("Relu", ["b"], ["c"], "clamped"),
            helper.make_node("MatMul", ["c", "second"], ["y"], "last"),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 4])],
        [
            numpy_helper.from_array(random.standard_normal((16, 32)).astype(np.float32), "first"),
            numpy_helper.from_array(np.full(32, bias, np.float32), "shift"),
            numpy_helper.from_array(random.standard_normal((32, 4)).astype(np.float32), "second"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("profile", ["x86", "arm", "tensorrt"])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_unit_that_is_dead_on_the_calibration_data(observer, profile, tmp_path: Path) -> None:
    """All that ReLU lets through is 0; saturation in its place must not let negative numbers pass."""
    graph = dense(tmp_path / "dense.onnx", bias=-1000.0)
    inputs = np.random.default_rng(1).standard_normal((32, 16)).astype(np.float32)

    quantized = changed(QuantizeStatic(observer=observer), graph, tmp_path, rows_of(tmp_path, x=inputs))
    (result,) = outputs_of(lowered(quantized.model, profile, tmp_path), {"x": inputs})

    assert quantized.facts["constant_tensors"] >= 1
    assert np.array_equal(result, np.zeros((32, 4)))


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    graph = dense(tmp_path / "dense.onnx", rows=8)
    inputs = np.random.default_rng(1).standard_normal((11, 16)).astype(np.float32)

    plan = changed(QuantizeStatic(observer="percentile"), graph, tmp_path, rows_of(tmp_path, x=inputs)).model.plan

    assert plan.samples == 11
    assert plan.ranges["x"].high == pytest.approx(inputs.max(), rel=0.01)


def test_a_transformer_keeps_its_residual_stream_in_floating_point(transformer: Path, tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 200, (64, 16))
    quantized = changed(QuantizeStatic(), transformer, tmp_path, rows_of(tmp_path, tokens=tokens))
    file = lowered(quantized.model, "x86", tmp_path)

    operators = executed(file, tmp_path)
    before, after = (outputs_of(path, {"tokens": tokens})[0] for path in (transformer, file))

    assert operators["QLinearMatMul"] + operators["MatMulIntegerToFloat"] + operators["QGemm"] >= 8
    assert operators["QLinearAdd"] == 0
    assert sqnr_db(before, after) > 25


def test_a_model_with_two_inputs(two_inputs: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    inputs = {
        "image": random.standard_normal((40, 3, 16, 16)).astype(np.float32),
        "facts": random.standard_normal((40, 5)).astype(np.float32),
    }
    quantized = changed(QuantizeStatic(), two_inputs, tmp_path, rows_of(tmp_path, **inputs))
    file = lowered(quantized.model, "x86", tmp_path)

    for before, after in zip(outputs_of(two_inputs, inputs), outputs_of(file, inputs), strict=True):
        assert sqnr_db(before, after) > 25
    assert executed(file, tmp_path)["QLinearConv"] == 1
