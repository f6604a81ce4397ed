"""A static plan on the program's own graph."""

from collections.abc import Iterable, Mapping

import onnx
from torch import fx

from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.lowering.onnx.quantized_graph import QuantizedActivation
from worker.engine.lowering.onnx.static import quantized
from worker.engine.lowering.program.codes import HIGHEST, LOWEST, Activation, quantize
from worker.engine.lowering.program.layers import (
    Places,
    as_layers,
    matched_at,
    transplant,
    transplant_constants,
    weighted_nodes,
)
from worker.engine.lowering.program.places import nodes_by_value, split_bias
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.plan.plan import Grid, StaticPlan
from worker.engine.torch_program.program import Program

PROFILE = PROFILES["arm"]
"""Signed activations with zero-points and signed weights: what converters of programs expect."""


def carry_out_static(plan: StaticPlan, named: Program, module: fx.GraphModule) -> tuple[int, tuple[str, ...]]:
    """Change `module`, a graph of `named`; the layers with int8 weights, and the names of those that were not found.

    Every layer gets the weights of the plan's graph, in floating point where the plan leaves it so.
    """
    original = onnx.load(plan.graph).graph
    rounded = quantized(plan, PROFILE)
    lowered = GraphIndex(rounded.model.graph)
    places = Places(nodes_by_value(named, module))
    layers = weighted_nodes(original)
    split_bias(module, original, places, as_layers([chosen for chosen in layers if chosen.name in set(plan.nodes)]))
    after = {node.name: node for node in lowered.graph.node}
    left = []
    for layer in layers:
        here = matched_at(layer, places.get(layer.output[0]))
        if here is not None:
            transplant(module, here, lowered, after[layer.name])
            places[layer.output[0]] = here.product.node
        elif layer.name in plan.nodes:
            left.append(layer.name)
    transplant_constants(module, lowered, places)
    for name, how in activations_of(rounded.activations, lowered, plan.grids).items():
        if (node := places.get(name)) is not None:
            quantize(module, node, how)
    chosen = sum(not lowered.is_float(after[layer.name].input[1]) for layer in layers)
    return chosen - len(left), tuple(left)


def activations_of(
    quantized_activations: Iterable[QuantizedActivation], lowered: GraphIndex, grids: Mapping[str, Grid]
) -> dict[str, Activation]:
    """How each activation of a lowered graph is quantized, by its name in the float graph."""
    activations = {}
    for entry in quantized_activations:
        scale, zero = (lowered.array(constant).reshape(-1)[0] for constant in (entry.scale, entry.zero_point))
        grid = grids.get(entry.tensor) if entry.has_own_scale else None
        shift = 0 if grid is None else int(zero) - grid.zero_point
        codes = (LOWEST, HIGHEST) if grid is None else (grid.low + shift, grid.high + shift)
        activations[entry.tensor] = Activation(float(scale), int(zero), *codes)
    return activations
