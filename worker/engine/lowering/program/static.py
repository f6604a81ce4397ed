"""A static plan on the program's own graph."""

from collections.abc import Mapping

import onnx
from torch import fx

from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.lowering.onnx.static import quantized
from worker.engine.lowering.program.codes import HIGHEST, LOWEST, Activation, quantize
from worker.engine.lowering.program.layers import (
    Places,
    as_layers,
    found_at,
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
    lowered = GraphIndex(quantized(plan, PROFILE).graph)
    places = Places(nodes_by_value(named, module))
    layers = weighted_nodes(original)
    split_bias(module, original, places, as_layers([one for one in layers if one.name in set(plan.nodes)]))
    after = {node.name: node for node in lowered.graph.node}
    left = []
    for layer in layers:
        here = found_at(layer, places.get(layer.output[0]))
        if here is not None:
            transplant(module, here, lowered, after[layer.name])
            places[layer.output[0]] = here.product.node
        elif layer.name in plan.nodes:
            left.append(layer.name)
    transplant_constants(module, lowered, places)
    for name, how in activations_of(lowered, plan.grids).items():
        if (node := places.get(name)) is not None:
            quantize(module, node, how)
    chosen = sum(not lowered.is_float(after[layer.name].input[1]) for layer in layers)
    return chosen - len(left), tuple(left)


def activations_of(lowered: GraphIndex, grids: Mapping[str, Grid]) -> dict[str, Activation]:
    """How each activation of a lowered graph is quantized, by its name in the float graph."""
    found = {}
    for node in lowered.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        name = node.input[0].removesuffix("_QuantizeLinear_Input")
        scale, zero = (lowered.array(operand).reshape(-1)[0] for operand in node.input[1:3])
        grid = grids.get(name) if node.input[1] == f"{name}_scale" else None
        shift = 0 if grid is None else int(zero) - grid.zero_point
        codes = (LOWEST, HIGHEST) if grid is None else (grid.low + shift, grid.high + shift)
        found[name] = Activation(float(scale), int(zero), *codes)
    return found
