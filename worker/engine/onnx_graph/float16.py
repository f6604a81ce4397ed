"""A float32 ONNX graph in float16: weights, activations and scales; inputs and outputs keep their types."""

from onnx import ModelProto
from onnxruntime.transformers.float16 import convert_float_to_float16

from worker.engine.onnx_graph.file import default_opset
from worker.engine.onnx_graph.opsets import with_opset

QDQ_OPSET = 19
"""The first in which QuantizeLinear and DequantizeLinear take float16."""
COUNTING = ("CumSum", "Range")
"""Stay in float32: float16 cannot count beyond 2048."""
QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})


def to_float16(model: ModelProto, wide: tuple[str, ...] = ()) -> ModelProto:
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
