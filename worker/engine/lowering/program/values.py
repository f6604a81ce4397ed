"""Weights of a plan as plain values in the program, for converters that find out by themselves what is shared."""

import onnx
from onnx import ModelProto

from worker.engine.lowering.onnx.shared import lower_shared_as_floats
from worker.engine.lowering.program.layers import Places, as_layers, matched_at, transplant, weighted_nodes
from worker.engine.lowering.program.places import nodes_by_value, split_bias
from worker.engine.model import Model
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.plan.plan import SharedPlan
from worker.engine.torch_program.program import Program


def with_shared_values(model: Model, plan: SharedPlan) -> tuple[Program, tuple[str, ...]]:
    """The program with the plan's values in its layers, and the weights of the plan that are in no layer of it.

    Raises `NotImported` for an ONNX file of which none can be made, `ExportFailed`, `ReexportFailed`.
    """
    named = model.translated
    module = named.graph_module()
    values: ModelProto = lower_shared_as_floats(plan)
    lowered, original = GraphIndex(values.graph), onnx.load(plan.graph).graph
    places = Places(nodes_by_value(named, module))
    layers = [layer for layer in weighted_nodes(original) if layer.input[1] in plan.weights]
    split_bias(module, original, places, as_layers(layers))
    after = {node.name: node for node in lowered.graph.node}
    placed = set()
    for layer in layers:
        here = matched_at(layer, places.get(layer.output[0]))
        if here is not None:
            transplant(module, here, lowered, after[layer.name])
            places[layer.output[0]] = here.product.node
            placed.add(layer.input[1])
    module.graph.eliminate_dead_code()
    module.recompile()
    return named.rebuilt(module), tuple(sorted(set(plan.weights) - placed))
