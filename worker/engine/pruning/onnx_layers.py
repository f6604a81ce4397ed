"""Layers of an ONNX graph whose weight is one float32 initializer."""

from collections.abc import Mapping

import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from worker.engine.pruning.weighted_layers import MATRIX_AXES, WeightedLayer


def onnx_layers(graph: GraphProto) -> tuple[WeightedLayer, ...]:
    """Convolutions and matrix products with a weight of their own, in the order of the graph."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    layers: dict[str, WeightedLayer] = {}
    for node in graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        axes = len(shapes.get(weight, ()))
        if weight in layers or node.domain not in {"", "ai.onnx"}:
            continue
        if (node.op_type == "Conv" and axes > MATRIX_AXES) or (
            node.op_type in {"Gemm", "MatMul"} and axes == MATRIX_AXES
        ):
            layers[weight] = _layer(node, weight)
    return tuple(layers.values())


def float_initializers(graph: GraphProto) -> dict[str, Tensor]:
    """Copies of the float32 initializers, by name."""
    floats = (tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT)
    return {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in floats}


def replace_initializers(graph: GraphProto, values: Mapping[str, Tensor]) -> None:
    """Put other values under the same names."""
    for tensor in graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].contiguous().numpy(), tensor.name))


def _layer(node: NodeProto, weight: str) -> WeightedLayer:
    given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not given.get("transB", 0))
    name, convolution = weight.removesuffix(".weight"), node.op_type == "Conv"
    return WeightedLayer(name, weight, None, convolution, transposed, given.get("group", 1))
