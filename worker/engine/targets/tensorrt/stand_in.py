"""ONNX Runtime in place of a compiler that is not here: it computes what the file says, and places nothing."""

from collections import Counter
from functools import cached_property

import onnx
from onnx import TensorProto

from app.spec.report import Placement
from worker.engine.onnx_graph.file import graphs
from worker.engine.onnx_graph.sessions import ort
from worker.engine.plan.selection import WEIGHTED
from worker.engine.targets.onnx.runtime import OnnxRuntime


class StandIn(OnnxRuntime):
    """Outputs, layers and sizes are those of the file; its placement is what the file asks for."""

    name = f"ONNX Runtime {ort.__version__} in place of TensorRT"

    @cached_property
    def _placement(self) -> Placement:
        graph = onnx.load(self.artifact, load_external_data=False).graph
        counted: Counter[str] = Counter()
        integer, floating = 0, 0
        for inner in graphs(graph):
            codes = _dequantized(inner)
            for node in inner.node:
                counted[node.op_type] += 1
                if node.op_type in WEIGHTED:
                    on_codes = codes.issuperset(node.input[:2])
                    integer, floating = integer + on_codes, floating + (not on_codes)
        return Placement(operators=dict(counted.most_common()), integer=integer, floating=floating)


def _dequantized(graph: onnx.GraphProto) -> set[str]:
    """Values made of 8-bit codes: a product of two of them is one of integers."""
    zeros = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {
        node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and zeros.get(node.input[2]) == TensorProto.INT8
    }
