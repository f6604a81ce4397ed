"""Which operators of an ONNX graph `quantize.static` gives integers, and why it leaves the others."""

from collections.abc import Collection
from functools import cache

from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from worker.engine.onnx_graph.sessions import ort
from worker.engine.plan.clamps import CLAMPS, may_saturate
from worker.engine.plan.selection import (
    FOLLOWERS,
    OTHER_FLOATS,
    WEIGHTED,
    has_integer_pool,
    is_plain_gemm,
    quantizable,
    weight_of,
)

SOURCE = f"onnxruntime.quantization {ort.__version__} registry, and the placement of quantize.static"
FLOATS = frozenset({TensorProto.FLOAT, *OTHER_FLOATS})


class Quantizing:
    """The placement of a graph; `operators`: the only ones that the target's profile quantizes, None for all."""

    def __init__(self, model: ModelProto, types: dict[str, int], operators: Collection[str] | None = None) -> None:
        """`types` of the graph's values, by name."""
        self._graph, self._types, self._operators = model.graph, types, operators
        self._chosen = frozenset(quantizable(model.graph, ()))
        self._constants = _constants(model.graph)

    def obstacle(self, node: NodeProto) -> str | None:
        """Why a node stays in floating point; None if it does not, or makes no floats to begin with."""
        if not any(self._types.get(name) in FLOATS for name in node.output):
            return None
        if self._operators is not None and node.op_type not in self._operators:
            return "The profile quantizes weighted operators only; the others stay in floats, or are fused with one."
        if self._is_chosen(node):
            return None
        return self._reason(node)

    def promise(self, node: NodeProto) -> str:
        """What to say of a node that has no obstacle."""
        return "In integers after quantize.static." if self._is_chosen(node) else ""

    def _is_chosen(self, node: NodeProto) -> bool:
        return node.name in self._chosen and (self._operators is None or node.op_type in self._operators)

    def _reason(self, node: NodeProto) -> str:
        if node.op_type in WEIGHTED:
            return self._reason_of_layer(node)
        if node.op_type in CLAMPS and not may_saturate(node, self._constants):
            return "Its bounds leave zero out, which 8-bit codes always reach."
        if node.op_type == "AveragePool" and not has_integer_pool(node):
            return "The integer kernel knows neither dilations nor padding beyond which the last window hangs."
        if node.op_type in FOLLOWERS:
            return "It pays in integers between convolutions only, and its data comes from elsewhere."
        if node.op_type in registry():
            return "onnxruntime.quantization has an integer form, which costs more than it saves."
        return "onnxruntime.quantization has no integer form."

    def _reason_of_layer(self, node: NodeProto) -> str:
        if not is_plain_gemm(node):
            return "Gemms with alpha, beta or transA have no integer form."
        weight = self._constants.get(weight_of(node) or "")
        if weight is None:
            return "Its weight is computed while the model runs."
        if weight.data_type != TensorProto.FLOAT:
            return "Its weight is not float32."
        if node.op_type == "MatMul" and len(weight.dims) != 2:
            return "Its weight is no matrix."
        return "Its weight has values that are infinite, or no numbers."


@cache
def registry() -> frozenset[str]:
    """Operators that ONNX Runtime's quantizer knows."""
    return frozenset({*QDQRegistry, *QLinearOpsRegistry})


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}
