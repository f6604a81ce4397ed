"""A dynamic plan on the program's own graph: matrix products with int8 weights, whose inputs are rounded as they come.

Embeddings and recurrent layers, which such a plan may name as well, have no form in which converters know them.
"""

import numpy as np
import onnx
import torch
from onnx import GraphProto
from torch import fx

from worker.engine.lowering.program.codes import QuantizedWeight, dequantized, quantize_at_run_time, rounded
from worker.engine.lowering.program.layers import MatchedLayer, Places, matched_at, weighted_nodes
from worker.engine.lowering.program.places import nodes_by_value
from worker.engine.onnx_graph.index import GraphIndex, attributes
from worker.engine.plan.plan import DynamicPlan
from worker.engine.torch_program.program import Program


def carry_out_dynamic(plan: DynamicPlan, named: Program, module: fx.GraphModule) -> tuple[int, tuple[str, ...]]:
    """Change `module`, a graph of `named`; the products with int8 weights, and the names of nodes left as floats.

    Weights have a scale for each output, whatever the plan says: kernels know no other.
    """
    graph = onnx.load(plan.graph).graph
    index, places = GraphIndex(graph), Places(nodes_by_value(named, module))
    layers = {layer.name: layer for layer in weighted_nodes(graph)}
    done: set[fx.Node] = set()
    left = []
    for name in plan.nodes:
        here = _linear_at(graph, places, layers[name]) if name in layers else None
        if here is None or here.product.node in done:
            left.append(name)
            continue
        done.add(here.product.node)
        _quantize(module, here, _weight(index, here))
    return len(done), tuple(left)


def _linear_at(graph: GraphProto, places: Places, layer: onnx.NodeProto) -> MatchedLayer | None:
    """The `aten.linear` that a matrix product, or the addition behind it, was made from."""
    output = layer.output[0]
    readers = [node for node in graph.node if output in node.input]
    behind = readers[0].output[0] if len(readers) == 1 and readers[0].op_type == "Add" else ""
    linear = matched_at(layer, places.get(output) or places.get(behind))
    return linear if linear is not None and linear.product.node.target is torch.ops.aten.linear.default else None


def _weight(index: GraphIndex, matched: MatchedLayer) -> QuantizedWeight:
    """`[outputs, inputs]`."""
    layer = matched.layer
    values: np.ndarray = index.array(layer.input[1])
    transposed = layer.op_type == "MatMul" or not attributes(layer).get("transB", 0)
    return rounded(values.T if transposed else values, 0)


def _quantize(module: fx.GraphModule, matched: MatchedLayer, weight: QuantizedWeight) -> None:
    node = matched.product.node
    with module.graph.inserting_before(node):
        operand = dequantized(module, str(matched.product.weight.target), weight)
    node.update_arg(1, operand)
    value = node.args[0]
    if isinstance(value, fx.Node):
        quantize_at_run_time(module, node, value)
