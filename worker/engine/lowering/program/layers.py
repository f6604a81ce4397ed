"""The layers of a prepared ONNX graph found again in the program it was made from, and given that graph's weights.

Preparation folds batch norms, and the options of a step may have moved scale between layers: what a plan describes are
the weights of its graph, not those of the program.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter, getitem
from typing import Any

import numpy as np
import torch
from onnx import GraphProto, NodeProto
from torch import fx

from worker.engine.lowering.onnx.biases import dequantized
from worker.engine.lowering.onnx.placement import PlacedLayer
from worker.engine.lowering.program.codes import QuantizedWeight, constant
from worker.engine.lowering.program.codes import dequantized as weight_node
from worker.engine.lowering.program.places import PRODUCTS, Product, product_at
from worker.engine.onnx_graph.index import GraphIndex, attributes
from worker.engine.plan.selection import WEIGHTED

ATEN = torch.ops.aten
CONSTANTS = frozenset({"Add", "Mul", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
"""Operators of ONNX with constants that a step may change, apart from the weights of layers."""
CONSTANT_PLACES: dict[Any, tuple[int, ...]] = {
    ATEN.layer_norm.default: (2, 3),
    ATEN.rms_norm.default: (2,),
    ATEN.add.Tensor: (0, 1),
    ATEN.mul.Tensor: (0, 1),
}
"""Where the program's operators have them among their arguments."""


SUFFIXES = ("/equalized", "/smoothed")
"""What steps add to the names of values that they scale."""


class Places(dict[str, fx.Node]):
    """Nodes of a program by the names of their values in ONNX, with or without what a step has added to these."""

    def get(self, name: str, default: fx.Node | None = None) -> fx.Node | None:  # type: ignore[override]
        """The node, `default` if there is none."""
        while name not in self and name.endswith(SUFFIXES):
            name = name.rpartition("/")[0]
        return super().get(name, default)


@dataclass(frozen=True)
class MatchedLayer:
    """One layer in both graphs."""

    layer: NodeProto
    """In the float ONNX graph."""
    product: Product
    behind: fx.Node
    """The node whose value is that of the ONNX node: the product itself, its addition, or a batch norm's result."""


def matched_at(layer: NodeProto, node: fx.Node | None) -> MatchedLayer | None:
    """The layer at a node; through a batch norm that preparation has folded. None where there is no such product."""
    inner = node
    if node is not None and node.target is getitem and node.args[1] == 0:
        norm: Any = node.args[0]
        inner = norm.args[0] if "batch_norm" in str(norm.target) else None
    elif node is not None and node.target is ATEN.batch_norm.default:
        inner = node.args[0]  # type: ignore[assignment]  # fx's arguments may be anything
    product = product_at(inner)
    return None if product is None or node is None else MatchedLayer(layer, product, node)


def weighted_nodes(graph: GraphProto) -> list[NodeProto]:
    """Convolutions and matrix products with a constant float32 weight."""
    index = GraphIndex(graph)
    return [
        node
        for node in graph.node
        if node.op_type in WEIGHTED and len(node.input) > 1 and index.is_float(node.input[1])
    ]


def as_layers(nodes: list[NodeProto]) -> tuple[PlacedLayer, ...]:
    """What `split_bias` wants to know of them."""
    return tuple(
        PlacedLayer(node.op_type, node.name, node.input[0], node.input[1], node.output[0], 0) for node in nodes
    )


def transplant(
    module: fx.GraphModule,
    matched: MatchedLayer,
    lowered: GraphIndex,
    node: NodeProto,
    codes: QuantizedWeight | None = None,
) -> None:
    """Give a layer of the program the weight and the bias that `node`, the same layer, has in a lowered graph.

    The weight becomes an int8 constant if it is one there, or if there are `codes` for it, in the layout that it has
    there. The bias of a MatMul stands in the Add behind it, and is
    that of another node here, too: see `transplant_addition`.
    """
    product = matched.product
    weight = _weight(lowered, node) if codes is None else codes.transposed() if _transposed(node) else codes
    bias = _bias(lowered, node)
    graph = module.graph
    with graph.inserting_before(product.node):
        name = str(product.weight.target)
        operand = (
            weight_node(module, name, weight) if isinstance(weight, QuantizedWeight) else constant(module, name, weight)
        )
        shift = None if bias is None else constant(module, f"{name}_bias", bias)
    target, args = product.node.target, _arguments(product)
    if node.op_type in ("Gemm", "MatMul"):
        target, args = ATEN.linear.default, (args[0],)
    product.node.target, product.node.args = target, (args[0], operand, shift, *args[3:])
    end = matched.behind if node.op_type != "MatMul" else product.node
    if end is not product.node:
        end.replace_all_uses_with(product.node)


def transplant_constants(module: fx.GraphModule, lowered: GraphIndex, places: Mapping[str, fx.Node]) -> None:
    """Give normalizations, and additions and multiplications of constants, the constants of a lowered graph."""
    for node in lowered.graph.node:
        here = places.get(node.output[0])
        operands = _constant_operands(here) if here is not None and node.op_type in CONSTANTS else ()
        given = [values for name in node.input if (values := dequantized(lowered, name)) is not None]
        if here is None or len(operands) != len(given):
            continue
        args: Any = here.args
        for place, values in zip(operands, given, strict=True):
            with module.graph.inserting_before(here):
                own = attrgetter(str(args[place].target))(module)
                if own.numel() == values.size:
                    replaced = values.astype(np.float32).reshape(own.shape)
                    here.update_arg(place, constant(module, f"{here.name}_{place}", replaced))


def _constant_operands(node: fx.Node) -> tuple[int, ...]:
    """Places of the parameters among the first arguments of a normalization, addition or multiplication."""
    places = CONSTANT_PLACES.get(node.target, ())
    return tuple(
        place
        for place in places
        if place < len(node.args) and isinstance(operand := node.args[place], fx.Node) and operand.op == "get_attr"
    )


def _arguments(product: Product) -> tuple[Any, ...]:
    """Of the product, in the order input, weight, bias, and what follows."""
    args: tuple[Any, ...] = product.node.args
    if product.node.target is ATEN.addmm.default:
        return args[1], args[2], args[0]
    return (*args, *[None] * (3 - len(args))) if product.node.target not in PRODUCTS else (*args, None)


def _weight(index: GraphIndex, node: NodeProto) -> QuantizedWeight | np.ndarray:
    """As the program's operators take it: matrices are `[outputs, inputs]`."""
    transposed = _transposed(node)
    if index.is_float(node.input[1]):
        values = index.array(node.input[1])
        return np.ascontiguousarray(values.T) if transposed else values
    maker = index.maker[node.input[1]]
    codes, scales = index.array(maker.input[0]), index.array(maker.input[1]).reshape(-1)
    axis = int(str(attributes(maker).get("axis", 1))) % codes.ndim if scales.size > 1 else 0
    weight = QuantizedWeight(codes, scales.astype(np.float32), axis)
    return weight.transposed() if transposed else weight


def _transposed(node: NodeProto) -> bool:
    """Whether a layer has its matrix as `[inputs, outputs]`."""
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not attributes(node).get("transB", 0))


def _bias(index: GraphIndex, node: NodeProto) -> np.ndarray | None:
    if node.op_type == "MatMul" or len(node.input) < 3 or not node.input[2]:
        return None
    values = dequantized(index, node.input[2])
    return None if values is None else values.reshape(-1).astype(np.float32)
