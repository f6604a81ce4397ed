"""quantize.dynamic: choose the matrix products whose weights become 8-bit; ranges are found at run time."""

from dataclasses import replace

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from app.spec.quantize import QuantizeDynamic
from worker.engine.context import Changed, Context
from worker.engine.model import Model
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.plan import DynamicPlan
from worker.engine.plan.selection import (
    WEIGHTED,
    has_plain_weight,
    is_finite,
    require_float32_weights,
    require_weights_outside_of_branches,
    skipped_nodes,
)

WEIGHTS: dict[str, tuple[int, ...]] = {
    "MatMul": (1,),
    "Gemm": (1,),
    "LSTM": (1, 2),
    "Gather": (0,),
    "Attention": (1,),
    "EmbedLayerNormalization": (2, 3, 4),
}
"""Operators with a dynamically quantized form in ONNX Runtime, and which of their operands must be constant float32.

Not Conv: its dynamic form, ConvInteger, is five times slower than the float kernel.
"""


def quantize_dynamic(step: QuantizeDynamic, model: Model, context: Context) -> Changed:  # noqa: ARG001  # no data
    """Attach a `DynamicPlan` to the model. Raises `UnknownNode`, `NothingToQuantize`."""
    prepared = model.prepared
    graph = onnx.load(prepared, load_external_data=False).graph
    original = onnx.load(model.graph, load_external_data=False).graph
    skipped = skipped_nodes(step.skip, original, graph)
    nodes = dynamically_quantizable(graph, skipped)
    if not nodes:
        require_float32_weights(original)
        require_weights_outside_of_branches(graph)
        raise NothingToQuantize(
            "No matrix product, LSTM or embedding with constant float32 weights is left.",
            remedy="Use quantize.static for convolutional models, or shorten the skip list.",
        )
    plan = DynamicPlan(prepared, nodes, step.per_channel)
    return Changed(
        replace(model, plan=plan),
        f"{len(nodes)} of {len(graph.node)} operators get 8-bit weights; their inputs are quantized at run time.",
        {"quantized_nodes": len(nodes), "skipped_nodes": len(skipped), "nodes": len(graph.node)},
    )


def dynamically_quantizable(graph: GraphProto, skipped: frozenset[str]) -> tuple[str, ...]:
    """Names of the nodes to quantize, in graph order."""
    floats = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and is_finite(tensor)
    }

    def weighted(node: NodeProto) -> bool:
        places = WEIGHTS.get(node.op_type, ())
        constant = all(place < len(node.input) and node.input[place] in floats for place in places)
        return bool(places) and constant and (node.op_type not in WEIGHTED or has_plain_weight(node, floats))

    return tuple(node.name for node in graph.node if node.name not in skipped and weighted(node))
