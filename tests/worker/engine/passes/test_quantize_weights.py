"""Weights in fewer bits: the file really shrinks, the outputs stay near, and the runtime computes in float32."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError

from app.spec.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights, Skip
from app.spec.targets import OnnxTarget
from tests.support.engine import zoo
from tests.support.engine.orders import (
    changed,
    context,
    executed,
    lowered,
    model_of,
    outputs_of,
    rows_of,
    signature_of,
    sqnr_db,
    upload,
)
from worker.engine.data.rows import Rows
from worker.engine.errors import PlanNotSupported
from worker.engine.model import open_model
from worker.engine.passes.table import apply_step
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.selection import UnknownNode
from worker.engine.targets.tensorrt.releases import RELEASES
from worker.engine.targets.tensorrt.rules import require_rules

TOKENS = np.random.default_rng(0).integers(0, 200, (32, 16))
INTEGER = {
    "QLinearConv",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "DequantizeLinear",
    "MatMulNBits",
    "BitShift",
}


class Delivered:
    """A graph before and after a step, and what the step told."""

    def __init__(self, step: QuantizeWeights, graph: Path, folder: Path, **inputs: np.ndarray) -> None:
        self.change = changed(step, graph, folder)
        self.file = lowered(self.change.model, "x86", folder)
        self.ratio = self.file.stat().st_size / graph.stat().st_size
        before, after = (outputs_of(path, inputs)[0] for path in (graph, self.file))
        self.sqnr = sqnr_db(before, after)
        self.operators = executed(self.file, folder)


@pytest.mark.parametrize(("weights", "size", "sqnr"), [("int8", 0.33, 38), ("int4", 0.26, 14), ("int3", 0.23, 8)])
def test_a_transformer_shrinks_and_computes_in_float32(
    weights: str, size: float, sqnr: float, transformer: Path, tmp_path: Path
) -> None:
    delivered = Delivered(QuantizeWeights(weights=weights), transformer, tmp_path, tokens=TOKENS)

    assert delivered.ratio < size
    assert delivered.sqnr > sqnr
    assert INTEGER.isdisjoint(delivered.operators), "unpacking is done when the model is loaded"


@pytest.mark.parametrize("weights", ["int8", "int4", "int3", "int2"])
def test_the_delivered_file_computes_with_the_values_of_the_plan(weights: str, recurrent: Path, tmp_path: Path) -> None:
    """Convolutions aside, every layout is here or in the transformer: rows, transposed products, gates."""
    series = np.random.default_rng(0).standard_normal((16, 12, 8)).astype(np.float32)
    change = changed(QuantizeWeights(weights=weights), recurrent, tmp_path)
    rounded = onnx.load(change.model.plan.graph)
    for tensor in rounded.graph.initializer:
        if tensor.name in change.model.plan.weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(change.model.plan.weights[tensor.name].values(), tensor.name))
    onnx.save(rounded, tmp_path / "rounded.onnx")

    file = lowered(change.model, "x86", tmp_path)
    assert {weight.layout.shape for weight in change.model.plan.weights.values()} >= {(1, 256, 8), (1, 256, 64)}
    expected, actual = (outputs_of(path, {"series": series})[0] for path in (tmp_path / "rounded.onnx", file))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_moved_zeros_lose_less(transformer: Path, tmp_path: Path) -> None:
    step = QuantizeWeights(weights="int3", skip=Skip(operators=("Gather",)))
    sqnr = {
        method: Delivered(step.model_copy(update={"method": method}), transformer, tmp_path, tokens=TOKENS).sqnr
        for method in ("rtn", "hqq")
    }
    assert sqnr["hqq"] > sqnr["rtn"] + 0.2


def test_errors_that_make_up_for_each_other_lose_less(transformer: Path, tmp_path: Path) -> None:
    """Measured on tokens that were not calibrated on."""
    rows = rows_of(tmp_path, tokens=np.random.default_rng(1).integers(0, 200, (64, 16)))
    sqnr, compensated = {}, {}
    for method in ("rtn", "gptq"):
        change = changed(QuantizeWeights(weights="int3", method=method), transformer, tmp_path, rows)
        file = lowered(change.model, "x86", tmp_path)
        before, after = (outputs_of(path, {"tokens": TOKENS})[0] for path in (transformer, file))
        sqnr[method], compensated[method] = sqnr_db(before, after), change.facts["compensated_weights"]
    assert compensated == {"rtn": 0, "gptq": change.facts["weights"] - 1}
    assert change.notes[1] == "Rounded to nearest, since gptq does not apply to them: weights 1 of Gather."
    assert sqnr["gptq"] > sqnr["rtn"] + 1


def test_convolutions_are_compensated_on_their_patches(
    digits_folder: Path, digits_calibration: Rows, digits_test: Rows, tmp_path: Path
) -> None:
    images, _ = next(digits_test.batches(256))
    graph = digits_folder / "digits.onnx"
    sqnr = {}
    for method in ("rtn", "gptq"):
        change = changed(QuantizeWeights(weights="int2", method=method), graph, tmp_path, digits_calibration)
        before, after = (outputs_of(path, images)[0] for path in (graph, lowered(change.model, "x86", tmp_path)))
        sqnr[method] = sqnr_db(before, after)
    assert sqnr["gptq"] > sqnr["rtn"] + 3


def test_gptq_asks_for_calibration_data() -> None:
    assert QuantizeWeights(method="gptq").requires().calibration
    assert not QuantizeWeights().requires().calibration


def test_smaller_blocks_cost_bytes_and_save_decibels(transformer: Path, tmp_path: Path) -> None:
    small, large = (
        Delivered(QuantizeWeights(weights="int4", block=block), transformer, tmp_path, tokens=TOKENS)
        for block in (16, 64)
    )
    assert small.file.stat().st_size == large.file.stat().st_size  # both are the same file by now
    assert small.ratio > large.ratio
    assert small.sqnr > large.sqnr


@pytest.mark.parametrize(("weights", "points"), [("int8", 0.3), ("int4", 1.0)])
def test_digits_keep_their_accuracy(
    weights: str, points: float, digits_folder: Path, digits_test: Rows, tmp_path: Path
) -> None:
    images, labels = next(digits_test.batches(len(digits_test)))
    graph = digits_folder / "digits.onnx"
    delivered = Delivered(QuantizeWeights(weights=weights), graph, tmp_path, **images)

    top1 = [(outputs_of(path, images)[0].argmax(1) == labels).mean() for path in (graph, delivered.file)]
    assert 100 * (top1[0] - top1[1]) <= points
    assert delivered.ratio < {"int8": 0.30, "int4": 0.20}[weights]


def test_a_program_is_quantized_like_its_onnx_file(digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    images, _ = next(digits_test.batches(64))
    uploaded = upload(digits_folder, "digits.pt2", signature_of(digits_folder / "digits.onnx"))
    program = open_model(uploaded, digits_folder, tmp_path, threads=1)
    files = []
    for model in (program, model_of(digits_folder / "digits.onnx", tmp_path)):
        folder = tmp_path / str(len(files))
        folder.mkdir()
        files.append(lowered(apply_step(QuantizeWeights(), model, context(folder)).model, "x86", folder))
    first, second = (outputs_of(file, images)[0] for file in files)
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_pruned_weights_stay_zero(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64)
    with torch.no_grad():
        layer.weight[layer.weight.abs() < 0.06] = 0
    graph = zoo.export(layer, tmp_path / "layer.onnx", {"x": torch.zeros(2, 64)}, ["y"])
    plan = changed(QuantizeWeights(weights="int4"), graph, tmp_path).model.plan
    (weight,) = plan.weights.values()
    zero = (layer.weight == 0).numpy()
    assert zero.mean() > 0.4
    assert not weight.matrix()[zero].any()


def test_the_report_tells_what_each_weight_lost(transformer: Path, tmp_path: Path) -> None:
    change = changed(QuantizeWeights(weights="int4"), transformer, tmp_path)
    (table,), (chart,) = change.tables, change.charts

    assert len(table.rows) == len(chart.x) == change.facts["weights"] == len(change.model.plan.weights)
    assert table.rows[0][:4] == (table.rows[0][0], "Gather", "200 x 64", "4 bits, blocks of 32")
    assert table.rows[0][4:6] == (4 * 200 * 64, 200 * 64 // 2 + 200 * 2 * (2 + 2))
    assert change.facts["bits_per_weight"] == pytest.approx(4 + 32 / 32, abs=0.1)
    assert all(15 < value < 30 for value in chart.series[0].values)


def test_what_is_skipped_stays(transformer: Path, tmp_path: Path) -> None:
    change = changed(QuantizeWeights(skip=Skip(operators=("Gather",))), transformer, tmp_path)
    assert all(row[1] != "Gather" for row in change.tables[0].rows)
    with pytest.raises(UnknownNode):
        changed(QuantizeWeights(skip=Skip(nodes=("nowhere*",))), transformer, tmp_path)
    with pytest.raises(NothingToQuantize, match="No float32 weight"):
        changed(QuantizeWeights(skip=Skip(operators=("Gather", "MatMul", "Gemm"))), transformer, tmp_path)


@pytest.mark.parametrize("step", [QuantizeWeights(), QuantizeWeights(weights="int4", symmetric=True, block=64)])
def test_tensorrt_gets_dequantize_nodes(step: QuantizeWeights, transformer: Path, tmp_path: Path) -> None:
    file = lowered(changed(step, transformer, tmp_path).model, "tensorrt", tmp_path)
    model = onnx.load(file)
    require_rules(model, RELEASES["trt10"])
    onnx.checker.check_model(model, full_check=True)

    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert sum(node.input[1] in dequantized for node in products) >= 8
    before, after = (outputs_of(path, {"tokens": TOKENS})[0] for path in (transformer, file))
    assert sqnr_db(before, after) > (38 if step.bits == 8 else 13)
    assert file.stat().st_size < (0.5 if step.bits == 8 else 0.4) * transformer.stat().st_size


def test_tensorrt_takes_no_other_weights(transformer: Path, tmp_path: Path) -> None:
    tensorrt = OnnxTarget(profile="tensorrt")
    refused = [QuantizeWeights(weights="int3"), QuantizeWeights(weights="int4"), QuantizeWeights(method="hqq")]
    for step in refused:
        assert not all(tensorrt.supports(one) for one in step.demands())
        with pytest.raises(PlanNotSupported, match="symmetric"):
            lowered(changed(step, transformer, tmp_path).model, "tensorrt", tmp_path)
    narrow = QuantizeWeights(weights="int4", symmetric=True)
    assert not all(tensorrt.supports(one) for one in narrow.demands()), "blocks of 32"
    with pytest.raises(PlanNotSupported, match="blocks of 64 or 128"):
        lowered(changed(narrow, transformer, tmp_path).model, "tensorrt", tmp_path)
    for step in (QuantizeWeights(), narrow.model_copy(update={"block": 64})):
        assert all(tensorrt.supports(one) for one in step.demands())


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValidationError, match="hqq moves zero-points"):
        QuantizeWeights(method="hqq", symmetric=True)


def test_the_other_steps_demand_nothing() -> None:
    assert QuantizeStatic().demands() == QuantizeDynamic().demands() == frozenset()
