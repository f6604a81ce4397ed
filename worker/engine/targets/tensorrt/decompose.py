"""Operators that the oldest TensorRT 10 does not read, written out in those that it does."""

import math

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from worker.engine.onnx_graph.packed import add_node, shared_constant
from worker.engine.onnx_graph.topological import sort_nodes
from worker.engine.onnx_graph.types import inferred
from worker.engine.targets.tensorrt.rules.view import attributes

WRITTEN_OUT = ("Gelu", "Mish")
"""What can be written out."""
Float = type[np.float16] | type[np.float32]


def write_out(model: ModelProto) -> None:
    """Replace each Gelu and Mish by its definition in the ONNX standard; every value keeps its name."""
    graph = model.graph
    chosen = [node for node in graph.node if node.domain in ("", "ai.onnx") and node.op_type in WRITTEN_OUT]
    types, _ = inferred(model) if chosen else ({}, {})
    for node in chosen:
        dtype = np.float16 if types.get(node.input[0]) == TensorProto.FLOAT16 else np.float32
        graph.node.remove(node)
        if node.op_type == "Mish":
            _mish(graph, node)
        elif attributes(node).get("approximate", "none") == "tanh":
            _tanh_gelu(graph, node, dtype)
        else:
            _gelu(graph, node, dtype)
    sort_nodes(graph)


def _gelu(graph: GraphProto, node: NodeProto, dtype: Float) -> None:
    """Y = x / 2 * (1 + erf(x / sqrt(2)))."""
    data, name = node.input[0], node.output[0]
    inner = add_node(graph, "Mul", [data, _number(graph, math.sqrt(0.5), dtype)], f"{name}/inner")
    erf = add_node(graph, "Erf", [inner], f"{name}/erf")
    _gated(graph, data, erf, name, dtype)


def _tanh_gelu(graph: GraphProto, node: NodeProto, dtype: Float) -> None:
    """Y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)))."""
    data, name = node.input[0], node.output[0]
    square = add_node(graph, "Mul", [data, data], f"{name}/square")
    cubic = add_node(graph, "Mul", [square, data], f"{name}/cube")
    small = add_node(graph, "Mul", [cubic, _number(graph, 0.044715, dtype)], f"{name}/small")
    bent = add_node(graph, "Add", [data, small], f"{name}/bent")
    inner = add_node(graph, "Mul", [bent, _number(graph, math.sqrt(2 / math.pi), dtype)], f"{name}/inner")
    tanh = add_node(graph, "Tanh", [inner], f"{name}/tanh")
    _gated(graph, data, tanh, name, dtype)


def _mish(graph: GraphProto, node: NodeProto) -> None:
    """Y = x * tanh(softplus(x))."""
    data, name = node.input[0], node.output[0]
    soft = add_node(graph, "Softplus", [data], f"{name}/softplus")
    tanh = add_node(graph, "Tanh", [soft], f"{name}/tanh")
    add_node(graph, "Mul", [data, tanh], name)


def _gated(graph: GraphProto, data: str, gate: str, name: str, dtype: Float) -> None:
    above = add_node(graph, "Add", [gate, _number(graph, 1.0, dtype)], f"{name}/above")
    product = add_node(graph, "Mul", [data, above], f"{name}/product")
    add_node(graph, "Mul", [product, _number(graph, 0.5, dtype)], name)


def _number(graph: GraphProto, value: float, dtype: Float) -> str:
    return shared_constant(graph, np.array(value, dtype))
