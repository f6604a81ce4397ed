"""A float32 ONNX graph in float16: weights, activations and scales; inputs and outputs keep their types."""

import onnx
from onnx import ModelProto, version_converter
from onnxruntime.transformers.float16 import convert_float_to_float16

from worker.engine.errors import PlanNotSupported
from worker.engine.onnx_file import default_opset

QDQ_OPSET = 19
"""The first in which QuantizeLinear and DequantizeLinear take float16."""
COUNTING = ("CumSum", "Range")
"""Stay in float32: float16 cannot count beyond 2048."""
QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})


def in_half(model: ModelProto, wide: tuple[str, ...] = ()) -> ModelProto:
    """The graph in float16; operators of the types `wide` stay in float32, between casts.

    What is beyond float16's range is cut to it. `model` is changed. Raises `PlanNotSupported` if it has Q/DQ nodes
    of an old opset and cannot be converted to a newer one.
    """
    if default_opset(model) < QDQ_OPSET and any(node.op_type in QDQ for node in model.graph.node):
        model = with_opset(model, QDQ_OPSET, "Quantization in float16")
    # Older notes of types would contradict the new ones; the converter infers what it needs.
    del model.graph.value_info[:]
    converted: ModelProto = convert_float_to_float16(
        model, keep_io_types=True, op_block_list=[*COUNTING, *wide], force_fp16_initializers=False
    )
    return converted


def with_opset(model: ModelProto, opset: int, purpose: str) -> ModelProto:
    """The model with at least this opset. Raises `PlanNotSupported`: `purpose` needs it."""
    if default_opset(model) >= opset:
        return model
    try:
        converted: ModelProto = version_converter.convert_version(model, opset)
    except Exception as error:  # the converter raises whatever its adapters meet
        raise PlanNotSupported(
            f"{purpose} needs opset {opset}, to which the model cannot be converted: {type(error).__name__}.",
            remedy=f"Export the model with opset {opset}, or use int8 and float32.",
        ) from error
    converted.ir_version = max(converted.ir_version, onnx.helper.OP_SET_ID_VERSION_MAP[("ai.onnx", opset)])
    return converted
