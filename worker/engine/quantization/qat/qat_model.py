"""A model made ready for the training: batch norms folded, operators as in ONNX, quantized tensors found in both."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import onnx
from onnx import GraphProto
from torch import Tensor, fx, nn

from app.spec.quantize import Skip
from worker.engine.lowering.onnx.placement import Placement, placement
from worker.engine.lowering.program.places import lost, nodes_by_value, product_at, split_bias
from worker.engine.model import Model
from worker.engine.plan.activations import activations
from worker.engine.plan.clamps import clamped_by
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.plan import Grid, Range, StaticPlan
from worker.engine.plan.selection import quantizable, require_float32_weights, skipped_nodes
from worker.engine.quantization.qat.fake_quantized import FakeQuantized
from worker.engine.torch_program.fold_batch_norm import fold_batch_norms
from worker.engine.torch_program.program import Program, quiet


@dataclass(frozen=True)
class QatModel:
    """The same network as a graph to train and as an ONNX graph, with the tensors to quantize."""

    model: Model
    decomposed: Program
    """With the operators that the exporter translates; a batch norm in it keeps its statistics."""
    module: fx.GraphModule
    """A graph of `decomposed`, to be changed."""
    nodes: tuple[str, ...]
    placed: Placement
    places: Mapping[str, fx.Node]
    """Nodes of `module` by the names of their values in ONNX."""
    floating: tuple[str, ...]
    """Values that ONNX could quantize but that the program's graph does not show."""

    @property
    def graph(self) -> GraphProto:
        """The prepared float graph."""
        return onnx.load(self.model.prepared, load_external_data=False).graph


def fold(model: Model) -> tuple[Model, int]:
    """The model without batch norms that a layer can take in, and how many it had."""
    module = model.program.graph_module()
    count = fold_batch_norms(module)
    return model.with_program(model.program.rebuilt(module)), count


def with_weights(program: Program, values: Mapping[str, Tensor]) -> Program:
    """The program with other values of its parameters; its graph stays, and so do the names in it."""
    with quiet():
        exported = copy.deepcopy(program.exported)
    for name, value in values.items():
        exported.state_dict[name] = nn.Parameter(value)
    return Program(exported, program.signature)


def qat_model_of(model: Model, skip: Skip, keep_float: frozenset[str] = frozenset()) -> QatModel:
    """Export the model and decide what is quantized: all but the skip list and the nodes `keep_float`.

    Raises `UnknownNode`, `NothingToQuantize`, `ExportFailed`.
    """
    decomposed = model.translated
    module = decomposed.graph_module()
    graph = onnx.load(model.prepared, load_external_data=False).graph
    original = onnx.load(model.graph, load_external_data=False).graph
    own_scale, skipped = _averaging(graph), skipped_nodes(skip, original, graph) | keep_float
    chosen = [name for name in quantizable(graph, skipped) if name not in own_scale]
    floating: set[str] = set()
    while chosen:
        placed = placement(_plan(model, graph, chosen))
        places = nodes_by_value(decomposed, module)
        split_bias(module, graph, places, placed.layers)
        missing = lost(placed, places)
        if not missing and placed.layers:
            return QatModel(model, decomposed, module, tuple(chosen), placed, places, tuple(sorted(floating)))
        floating |= missing
        touched = _touching(graph, missing)
        chosen = [name for name in chosen if name not in touched] if placed.layers else []
    require_float32_weights(original)
    raise NothingToQuantize("No convolution or matrix product with a constant float32 weight is left.")


def _averaging(graph: GraphProto) -> frozenset[str]:
    """Nodes that average neighbours: their results get a scale of their own, from what reads them.

    The quantizer would have them share their input's. Then every fourth mean of four codes lies exactly between two of
    them, and integer kernels break such ties by their rounding errors: 20 to 25 % of the values of a QLinearAveragePool
    differed by one code from the trained graph's, and after 4-bit activations 11 % of the answers.
    """
    return frozenset(
        node.name
        for node in graph.node
        if node.op_type == "AveragePool"
        or (
            node.op_type == "Resize"
            and any(attribute.name == "mode" and attribute.s != b"nearest" for attribute in node.attribute)
        )
    )


def _touching(graph: GraphProto, values: Iterable[str]) -> set[str]:
    return {node.name for node in graph.node if not set(values).isdisjoint((*node.input, *node.output))}


def _plan(model: Model, graph: GraphProto, nodes: Iterable[str]) -> StaticPlan:
    """A plan that quantizes these nodes, with ranges that say nothing."""
    ranges = dict.fromkeys(activations(graph, frozenset(nodes)), Range(0.0, 1.0))
    return StaticPlan(model.prepared, ranges, "mse", 0, tuple(nodes), per_channel=True)


def spread(subject: QatModel, grids: Mapping[str, Grid]) -> dict[str, Grid]:
    """The grid of every quantized activation, from those of the activations that have a scale of their own."""
    spread_grids = {name: grids[source] for name, source in subject.placed.scale_of.items()}
    clamped = clamped_by(subject.graph, frozenset(subject.nodes))
    return spread_grids | {before: spread_grids[after] for before, after in clamped.items() if after in spread_grids}


def ranges_of(subject: QatModel, grids: Mapping[str, Grid]) -> dict[str, Range]:
    """What a plan wants to know of every activation that its nodes touch."""
    touched = activations(subject.graph, frozenset(subject.nodes))
    return {name: grids[name].range() for name in touched if name in grids}


def plan_with(subject: QatModel, fake_quantized: FakeQuantized, samples: int) -> StaticPlan:
    """The plan for the trained model: as the fake-quantized network rounds, so will every target that can."""
    placed = subject.placed
    own = {
        source: fake_quantized.activations[subject.places[source].name].grid() for source in placed.scale_of.values()
    }
    grids = spread(subject, own)
    ranges = ranges_of(subject, grids)
    for layer in placed.layers:
        product = product_at(subject.places[layer.output])
        if product is not None:
            grid = fake_quantized.weights[str(product.weight.target)].grid()
            grids[layer.weight] = grid if grid.axis is None else replace(grid, axis=layer.axis)
    return StaticPlan(subject.model.prepared, ranges, "mse", samples, subject.nodes, True, grids)
