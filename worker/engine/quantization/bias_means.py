"""Which layers' biases can be corrected for their rounded weights, and the mean inputs that this takes."""

from collections.abc import Collection

import onnx
from onnx import NodeProto

from worker.engine.onnx_graph.index import GraphIndex, attributes
from worker.engine.onnx_graph.layers import LAYERS, has_fixed_outputs, shift_behind
from worker.engine.quantization.statistics.collector import Collector
from worker.engine.quantization.statistics.means import InputMean


def observe_input_means(collector: Collector, nodes: Collection[str]) -> dict[str, InputMean]:
    """Declare the mean input of each weight, by the node's name; only nodes whose bias can be corrected have one.

    These are the float graph's own means, so they are gathered in the pass that finds the ranges.
    """
    index = GraphIndex(onnx.load(collector.graph).graph)
    return {
        node.name: collector.observe(node.input[0], InputMean(index, node))
        for node in index.graph.node
        if node.name in nodes and _is_correctable(index, node)
    }


def _is_correctable(index: GraphIndex, node: NodeProto) -> bool:
    """Whether a shift of the outputs' mean can be taken back by a bias, and the mean input is known how to find."""
    if node.op_type not in LAYERS or (index.rank(node.input[0]) or 0) < 2 or not index.is_float(node.input[1]):
        return False
    if node.op_type == "MatMul":
        return len(index.constants[node.input[1]].dims) == 2 and shift_behind(index, node.output[0]) is not None
    return attributes(node).get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and has_fixed_outputs(index, node)
