"""The tensors of an ONNX graph found again among the nodes of the program it was made from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from onnx import GraphProto
from torch import fx
from torch.utils._pytree import tree_leaves

from worker.engine.lowering.onnx.placement import PlacedLayer, Placement
from worker.engine.torch_program.program import Program

ATEN = torch.ops.aten
CONVOLUTIONS = frozenset(
    {
        ATEN.conv1d.default,
        ATEN.conv2d.default,
        ATEN.conv3d.default,
        ATEN.conv1d.padding,
        ATEN.conv2d.padding,
        ATEN.conv3d.padding,
        ATEN.conv_transpose1d.default,
        ATEN.conv_transpose2d.input,
        ATEN.conv_transpose3d.input,
        ATEN.convolution.default,
    }
)
PRODUCTS = frozenset({ATEN.mm.default, ATEN.matmul.default})


@dataclass(frozen=True)
class Product:
    """A layer's node, and what it reads."""

    node: fx.Node
    weight: fx.Node
    """The parameter itself, a `get_attr`."""
    axis: int
    """Of the parameter: numbers the output channels."""
    bias: fx.Node | None
    """The parameter, where the layer adds one."""
    adds: fx.Node
    """The node that reads the bias: the product itself, or an addition behind it."""


def nodes_by_value(program: Program, module: fx.GraphModule) -> dict[str, fx.Node]:
    """The nodes of a graph of a decomposed program by the names that their values have in ONNX."""
    named = {node.name: node for node in module.graph.nodes if node.op == "call_function"}
    results = [leaf for leaf in tree_leaves(module.graph.output_node().args) if isinstance(leaf, fx.Node)]
    outputs = {tensor.name: node for tensor, node in zip(program.signature.outputs, results, strict=False)}
    return named | program.input_nodes(module) | outputs


def split_bias(
    module: fx.GraphModule, graph: GraphProto, places: dict[str, fx.Node], layers: tuple[PlacedLayer, ...]
) -> None:
    """Where ONNX multiplies and then adds, have the program's graph do the same, and enter the products in `places`.

    `aten.linear` on more than two axes becomes a MatMul, whose result is quantized, and an Add in floating point.
    Exporters leave an Add of zeros out: it will be there once the bias is trained.
    """
    for layer in layers:
        if layer.operator != "MatMul":
            continue
        node = places.get(layer.output) or places.get(_sum_of(graph, layer.output))
        if node is None:
            continue
        args: tuple[Any, ...] = node.args
        if node.target is ATEN.linear.default and len(args) > 2 and args[2] is not None:
            with module.graph.inserting_before(node):
                product = module.graph.create_node(
                    "call_function", ATEN.linear.default, args[:2], name=f"{node.name}_product"
                )
            node.target, node.args, args = ATEN.add.Tensor, (product, args[2]), (product, args[2])
        if node.target is ATEN.add.Tensor and getattr(args[0], "name", "") == f"{node.name}_product":
            places[layer.output] = args[0]
    module.recompile()


def _sum_of(graph: GraphProto, product: str) -> str:
    """The value that an Add makes of this one alone, '' if there is none."""
    readers = [node for node in graph.node if product in node.input]
    return readers[0].output[0] if len(readers) == 1 and readers[0].op_type == "Add" else ""


def product_at(node: fx.Node | None) -> Product | None:
    """What computes a layer's output; None where that is not one operator with a parameter as its weight."""
    if node is None:
        return None
    args: tuple[Any, ...] = node.args
    if node.target is ATEN.add.Tensor and getattr(args[0], "target", None) in PRODUCTS:
        inner, added = product_at(args[0]), _parameter(args[1])  # a Gemm in ONNX
        return None if inner is None or added is None else replace(inner, bias=added, adds=node)
    if node.target in CONVOLUTIONS:
        transposed = "transpose" in str(node.target) or (node.target is ATEN.convolution.default and args[6])
        parameter, bias = _parameter(args[1]), args[2:3]
        weight = None if parameter is None else (parameter, int(bool(transposed)))
    elif node.target is ATEN.linear.default:
        weight, bias = _traced(args[1], 0), args[2:3]
    elif node.target is ATEN.addmm.default:
        weight, bias = _traced(args[2], 1), args[:1]
    elif node.target in PRODUCTS:
        weight, bias = _traced(args[1], 1), ()
    else:
        return None
    return None if weight is None else Product(node, *weight, _parameter(bias[0]) if bias else None, node)


def _parameter(node: object) -> fx.Node | None:
    return node if isinstance(node, fx.Node) and node.op == "get_attr" else None


def _traced(node: object, axis: int) -> tuple[fx.Node, int] | None:
    """The parameter behind transpositions of a matrix, and which of its axes is `axis` of the operand."""
    while isinstance(node, fx.Node) and node.op == "call_function":
        args: tuple[Any, ...] = node.args
        if node.target is ATEN.t.default:
            axis = 1 - axis
        elif node.target is ATEN.transpose.int:
            axis = axis if (args[1] - args[2]) % 2 == 0 else 1 - axis
        elif node.target is ATEN.permute.default:
            axis = args[1][axis] % 2
        else:
            return None
        node = args[0]
    parameter = _parameter(node)
    return None if parameter is None else (parameter, axis)


def lost(placed: Placement, places: Mapping[str, fx.Node]) -> frozenset[str]:
    """Quantized values that the program's graph does not show, and outputs of layers that it computes differently."""
    hidden = {name for name, source in placed.scale_of.items() if name == source and name not in places}
    return frozenset(hidden | {layer.output for layer in placed.layers if product_at(places.get(layer.output)) is None})
