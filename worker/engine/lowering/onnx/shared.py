"""Shared weights as an ONNX graph: packed indices, tables, and a Gather that the runtime folds when it loads them."""

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto

from worker.engine.onnx_graph.names import free_prefix, taken_names
from worker.engine.onnx_graph.packed import (
    add_constant,
    add_node,
    add_tensor,
    add_unsigned,
    remove_initializers,
    require_opset,
)
from worker.engine.onnx_graph.topological import sort_nodes
from worker.engine.plan.plan import SharedPlan
from worker.engine.plan.sharing import SharedWeight


def lower_shared(plan: SharedPlan) -> ModelProto:
    """The graph with each weight looked up in its tables."""
    model = onnx.load(plan.graph)
    taken = taken_names(model.graph)
    remove_initializers(model.graph, plan.weights.keys())
    for name, weight in plan.weights.items():
        _add_lookup(model.graph, name, weight, free_prefix(name, taken))
    require_opset(model)
    sort_nodes(model.graph)
    return model


def lower_shared_as_floats(plan: SharedPlan) -> ModelProto:
    """The graph with the shared values as plain weights: TensorRT shifts no bits."""
    model = onnx.load(plan.graph)
    remove_initializers(model.graph, plan.weights.keys())
    for name, weight in plan.weights.items():
        add_constant(model.graph, name, weight.values())
    return model


def _add_lookup(graph: GraphProto, name: str, weight: SharedWeight, prefix: str) -> None:
    """Nodes that compute the weight; all tables of a tensor are one, in which a row's indices begin at its group's."""
    add_unsigned(graph, f"{prefix}/indices", weight.indices, weight.bits)
    add_constant(graph, f"{prefix}/tables", weight.tables.reshape(-1))
    value = add_node(graph, "Cast", [f"{prefix}/indices"], f"{prefix}/numbers", to=TensorProto.INT32)
    if len(weight.tables) > 1:
        groups = np.arange(weight.layout.rows, dtype=np.int32)[:, None] // weight.group
        add_constant(graph, f"{prefix}/starts", groups * np.int32(weight.clusters))
        value = add_node(graph, "Add", [value, f"{prefix}/starts"], f"{prefix}/places")
    value = add_node(graph, "Gather", [f"{prefix}/tables", value], f"{prefix}/matrix", axis=0)
    add_tensor(graph, value, name, weight.layout, prefix)
