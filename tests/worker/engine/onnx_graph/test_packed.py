"""Packed weights make the file smaller and change nothing that the runtime executes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.engine.orders import executed
from worker.engine.onnx_graph.packed import add_unsigned, require_opset, store_packed
from worker.engine.onnx_graph.sessions import session


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("shape", [(7, 3), (64,), (5, 3, 3, 3), ()])
def test_the_runtime_unpacks_what_was_packed(bits: int, shape: tuple[int, ...]) -> None:
    codes = np.array(np.random.default_rng(0).integers(0, 1 << bits, shape), np.uint8)
    graph = helper.make_graph([], "g", [], [helper.make_tensor_value_info("codes", TensorProto.UINT8, shape)])
    add_unsigned(graph, "codes", codes, bits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)

    np.testing.assert_array_equal(session(model.SerializeToString(), 1).run(None, {})[0], codes)


CHANNELS = 64


def quantized_convolution(codes: np.ndarray) -> onnx.ModelProto:
    """A convolution between quantized activations, opset 13."""
    constants = {
        "weight": codes,
        "weight_scale": np.full(CHANNELS, 0.01, np.float32),
        "weight_zero": np.zeros(CHANNELS, np.int8),
        "scale": np.float32(0.05),
        "zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["image_q"]),
        helper.make_node("DequantizeLinear", ["image_q", "scale", "zero"], ["image_dq"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["weight_dq"], axis=0),
        helper.make_node("Conv", ["image_dq", "weight_dq"], ["sum"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["sum", "scale", "zero"], ["sum_q"]),
        helper.make_node("DequantizeLinear", ["sum_q", "scale", "zero"], ["features"]),
    ]
    shape = ["rows", CHANNELS, 16, 16]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_packed_weight_keeps_its_integer_kernel(bits: int, tmp_path: Path) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    codes = np.random.default_rng(0).integers(low, high + 1, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
    model = quantized_convolution(codes)
    plain, packed = tmp_path / "plain.onnx", tmp_path / "packed.onnx"
    onnx.save(model, plain)
    store_packed(model, {"weight": bits})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, packed)

    assert packed.stat().st_size < plain.stat().st_size * bits / 8 + 2000
    assert executed(packed, tmp_path)["QLinearConv"] == 1
    assert executed(packed, tmp_path) == executed(plain, tmp_path)
    image = np.random.default_rng(1).standard_normal((2, CHANNELS, 16, 16)).astype(np.float32)
    outputs = [session(path, 1).run(None, {"image": image})[0] for path in (plain, packed)]
    np.testing.assert_array_equal(outputs[0], outputs[1])


def test_codes_that_do_not_fit_are_refused() -> None:
    model = quantized_convolution(np.full((CHANNELS, CHANNELS, 3, 3), 4, np.int8))
    with pytest.raises(ValueError, match="a code of weight does not fit 3 bits"):
        store_packed(model, {"weight": 3})


def test_a_newer_opset_stays() -> None:
    model = helper.make_model(helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", 20)])
    require_opset(model)
    assert model.opset_import[0].version == 20
