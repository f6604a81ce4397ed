"""Dynamic quantization shrinks matrix products, recurrences and embeddings, and leaves convolutions alone."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from app.spec.quantize import QuantizeDynamic, QuantizeWeights, Skip
from tests.support.engine import zoo
from tests.support.engine.orders import changed, context, executed, lowered, outputs_of, signature_of, sqnr_db, upload
from worker.engine.errors import PlanNotSupported
from worker.engine.model import open_model
from worker.engine.passes.table import apply_step
from worker.engine.plan.errors import NothingToQuantize

TOKENS = np.random.default_rng(0).integers(0, 200, (32, 16))


@pytest.mark.parametrize("profile", ["x86", "x86-legacy", "arm"])
def test_a_transformer_shrinks_and_keeps_its_outputs(profile, transformer: Path, tmp_path: Path) -> None:
    quantized = changed(QuantizeDynamic(), transformer, tmp_path)
    file = lowered(quantized.model, profile, tmp_path)

    operators = executed(file, tmp_path)
    before, after = (outputs_of(path, {"tokens": TOKENS})[0] for path in (transformer, file))

    assert operators["DynamicQuantizeMatMul"] + operators["MatMulIntegerToFloat"] >= 8
    assert file.stat().st_size < 0.45 * transformer.stat().st_size
    assert sqnr_db(before, after) > 20


def test_each_channel_has_its_own_scale(transformer: Path, tmp_path: Path) -> None:
    errors = {}
    for per_channel in (True, False):
        quantized = changed(QuantizeDynamic(per_channel=per_channel), transformer, tmp_path)
        file = lowered(quantized.model, "x86", tmp_path)
        sizes = {tuple(t.dims) for t in onnx.load(file).graph.initializer if t.name.endswith("weight_scale")}
        errors[per_channel] = sizes
    assert errors[True] != errors[False]


def test_a_recurrent_network(recurrent: Path, tmp_path: Path) -> None:
    series = np.random.default_rng(0).standard_normal((16, 12, 8)).astype(np.float32)
    quantized = changed(QuantizeDynamic(), recurrent, tmp_path)
    file = lowered(quantized.model, "x86", tmp_path)

    assert executed(file, tmp_path)["DynamicQuantizeLSTM"] == 1
    before, after = (outputs_of(path, {"series": series})[0] for path in (recurrent, file))
    assert sqnr_db(before, after) > 20
    assert file.stat().st_size < 0.4 * recurrent.stat().st_size


def test_convolutions_stay_in_floating_point(two_inputs: Path, tmp_path: Path) -> None:
    quantized = changed(QuantizeDynamic(), two_inputs, tmp_path)
    operators = executed(lowered(quantized.model, "x86", tmp_path), tmp_path)
    assert operators["ConvInteger"] == 0
    assert operators["DynamicQuantizeMatMul"] + operators["MatMulIntegerToFloat"] == 2


def test_a_model_of_convolutions_is_refused(resnet18: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToQuantize, match="matrix product"):
        changed(QuantizeDynamic(skip=Skip(operators=("Gemm",))), resnet18, tmp_path)


def test_skipped_products_stay_in_floating_point(two_inputs: Path, tmp_path: Path) -> None:
    """Gemm nodes are renamed by the quantizer before it looks at names."""
    first = next(node.name for node in onnx.load(two_inputs).graph.node if node.op_type == "Gemm")
    quantized = changed(QuantizeDynamic(skip=Skip(nodes=(first,))), two_inputs, tmp_path)
    operators = executed(lowered(quantized.model, "x86", tmp_path), tmp_path)
    assert operators["DynamicQuantizeMatMul"] + operators["MatMulIntegerToFloat"] == 1


def test_tensorrt_has_no_such_operators(transformer: Path, tmp_path: Path) -> None:
    quantized = changed(QuantizeDynamic(), transformer, tmp_path)
    with pytest.raises(PlanNotSupported):
        lowered(quantized.model, "tensorrt", tmp_path)


def test_a_weight_that_two_products_share(tmp_path: Path) -> None:
    """The quantizer transposes the weight of a Gemm in place, as if nothing else read it."""
    weight = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "shift"], ["a"], "first", transB=1),
            helper.make_node("Gemm", ["a", "w", "shift"], ["b"], "second", transB=1),
            helper.make_node("MatMul", ["b", "w"], ["y"], "third"),
        ],
        "tied",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.ones(16, np.float32), "shift")],
    )
    path = tmp_path / "tied.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    inputs = {"x": np.random.default_rng(1).standard_normal((8, 16)).astype(np.float32)}

    file = lowered(changed(QuantizeDynamic(), path, tmp_path).model, "x86", tmp_path)

    assert sqnr_db(outputs_of(path, inputs)[0], outputs_of(file, inputs)[0]) > 20


def test_a_program_is_quantized_like_its_onnx_file(transformer: Path, tmp_path: Path) -> None:
    torch.export.save(zoo.program(zoo.TransformerBlock(), torch.zeros(2, 16, dtype=torch.int64)), tmp_path / "t.pt2")
    program = open_model(upload(tmp_path, "t.pt2", signature_of(transformer)), tmp_path, tmp_path, threads=1)
    file = lowered(apply_step(QuantizeDynamic(), program, context(tmp_path)).model, "x86", tmp_path)

    operators = executed(file, tmp_path)
    before, after = (outputs_of(path, {"tokens": TOKENS})[0] for path in (transformer, file))
    assert operators["DynamicQuantizeMatMul"] + operators["MatMulIntegerToFloat"] >= 8
    assert sqnr_db(before, after) > 20


def test_an_artifact_with_packed_weights_is_quantized_again(digits_folder: Path, tmp_path: Path) -> None:
    """Once unpacked, its weights are constants whose shapes are noted in the graph."""
    once = changed(QuantizeWeights(weights="int4"), digits_folder / "digits.onnx", tmp_path)
    packed = lowered(once.model, "x86", tmp_path)

    again = changed(QuantizeDynamic(), packed, tmp_path)
    (tmp_path / "again").mkdir()
    file = lowered(again.model, "x86", tmp_path / "again")

    images = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)
    before, after = (outputs_of(path, {"image": images})[0] for path in (packed, file))
    assert sqnr_db(before, after) > 20
