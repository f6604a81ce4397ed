"""What TensorRT 10 requires of a quantized ONNX graph, checked without TensorRT.

Source: NVIDIA, TensorRT Developer Guide, "Explicit Quantization", and onnx-tensorrt's docs/operators.md.
"""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from worker.engine.errors import RuleViolated
from worker.engine.onnx_file import default_opset, graphs
from worker.engine.selection import weight_of

LAST_OPSET = 20
"""Read by TensorRT 10.0, the release that Jetson keeps."""
LAST_OPSET_INT4 = 21
"""The first with 4-bit integers; graphs with them need a later TensorRT 10."""
QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
INTEGER_OPERATORS = frozenset({"MatMulInteger", "ConvInteger", "DynamicQuantizeLinear"})


def require_tensorrt_rules(model: ModelProto) -> None:
    """Raise `RuleViolated` at the first broken rule."""
    last = LAST_OPSET_INT4 if _has_int4(model) else LAST_OPSET
    if default_opset(model) > last:
        raise RuleViolated(
            f"The model uses opset {default_opset(model)}; TensorRT 10.0 reads up to {LAST_OPSET}.",
            remedy=f"Export the model with opset {LAST_OPSET} or earlier.",
        )
    for graph in graphs(model.graph):
        constants = {tensor.name: tensor for tensor in graph.initializer}
        weights = _weights(list(graph.node))
        for node in graph.node:
            if node.domain not in ("", "ai.onnx"):
                raise RuleViolated(
                    f"Node {node.name}: TensorRT has no {node.domain}::{node.op_type}.",
                    remedy="Export the model with standard ONNX operators only.",
                )
            if node.op_type in INTEGER_OPERATORS or node.op_type.startswith("QLinear"):
                raise RuleViolated(f"Node {node.name}: TensorRT has no {node.op_type}.")
            if node.op_type in QDQ:
                _check_pair(node, constants, weights)


def _has_int4(model: ModelProto) -> bool:
    return any(tensor.data_type == TensorProto.INT4 for tensor in model.graph.initializer)


def _weights(nodes: list[NodeProto]) -> set[str]:
    """The values that are weights of weighted operators, and the float values they are dequantized from."""
    weights = {name for node in nodes if (name := weight_of(node))}
    return weights | {node.input[0] for node in nodes if node.op_type in QDQ and node.output[0] in weights}


def _check_pair(node: NodeProto, constants: dict[str, TensorProto], weights: set[str]) -> None:
    scale = constants.get(node.input[1])
    if scale is None or not (numpy_helper.to_array(scale) > 0).all():
        raise RuleViolated(f"Node {node.name}: the scale must be a positive constant.")
    if scale.dims and int(np.prod(scale.dims)) > 1 and node.output[0] not in weights and node.input[0] not in weights:
        raise RuleViolated(f"Node {node.name}: only weights may have a scale for each channel.")
    zero_point = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    narrow = node.output[0] in weights and zero_point is not None and zero_point.data_type == TensorProto.INT4
    if not narrow and (zero_point is None or zero_point.data_type != TensorProto.INT8):
        raise RuleViolated(f"Node {node.name}: the zero-point must be a constant int8, never uint8.")
    if zero_point is not None and numpy_helper.to_array(zero_point).astype(np.int8).any():
        raise RuleViolated(f"Node {node.name}: zero-points must be 0.")
