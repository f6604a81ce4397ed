"""Stored weights on the program's own graph: symmetric codes with a scale for each output."""

import numpy as np
import onnx
from torch import fx

from worker.engine.lowering.program.codes import QuantizedWeight
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
from worker.engine.plan.grids import CodedWeight
from worker.engine.plan.plan import WeightsPlan
from worker.engine.torch_program.program import Program


def carry_out_weights(plan: WeightsPlan, named: Program, module: fx.GraphModule) -> tuple[int, tuple[str, ...]]:
    """Change `module`, a graph of `named`; the layers with int8 codes, and the names of weights left as floats.

    Left are weights on grids with zero-points, or with several scales for an output, and those of no layer, such as
    embeddings.
    """
    graph = onnx.load(plan.graph).graph
    index, places = GraphIndex(graph), Places(nodes_by_value(named, module))
    done: set[str] = set()
    layers = weighted_nodes(graph)
    split_bias(module, graph, places, as_layers([layer for layer in layers if layer.input[1] in plan.weights]))
    for layer in layers:
        here = matched_at(layer, places.get(layer.output[0]))
        if here is None:
            continue
        weight = plan.weights.get(layer.input[1])
        codes = None if weight is None else _codes(weight)
        transplant(module, here, index, layer, codes)
        places[layer.output[0]] = here.product.node
        if codes is not None:
            done.add(layer.input[1])
    transplant_constants(module, index, places)
    return len(done), tuple(name for name in plan.weights if name not in done)


def _codes(weight: CodedWeight) -> QuantizedWeight | None:
    """In the layout of the tensor; None where one scale for each output and zero-points of 0 do not say it all."""
    if weight.grid.zeros is not None or weight.codes.shape[1] != 1:
        return None
    rows = (weight.codes[:, 0, : weight.layout.columns].astype(np.int16) - weight.grid.shape.middle).astype(np.int8)
    return QuantizedWeight(
        weight.layout.tensor(rows), weight.grid.scale.reshape(-1), weight.layout.axes[0], weight.bits
    )
