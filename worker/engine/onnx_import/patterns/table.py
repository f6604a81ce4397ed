"""The patterns in the order in which they are looked for."""

from collections.abc import Callable

from worker.engine.onnx_import.graph import Graph, Node
from worker.engine.onnx_import.patterns import activations, attention, fused, layers, norms, quantized_layers
from worker.engine.onnx_import.patterns.view import Ranks, View

Pattern = Callable[[Node, View], Node | tuple[Node, ...] | None]
"""What stands in place of a node that ends the pattern; None if it does not. The nodes before it stay: what is not
read any more is dropped afterwards."""

PARTS: tuple[Pattern, ...] = (
    quantized_layers.integer_layer,
    quantized_layers.weight_in_bits,
    fused.product,
    fused.bias_before_gelu,
)
"""Operators that are taken apart, before constants are folded: they leave weights to be computed."""
PATTERNS: tuple[Pattern, ...] = (
    norms.layer_norm,
    norms.bias_of_norm,
    norms.group_norm,
    activations.gelu,
    activations.hard_swish,
    activations.gated,
    activations.hard_sigmoid,
    attention.attention,
    layers.recurrent,
    layers.linear,
    layers.bias,
)


def recognise(graph: Graph, patterns: tuple[Pattern, ...], ranks: Ranks) -> None:
    """Put together again what exporters took apart, in the graph and in every body."""
    for body in list(graph.walk()):
        for pattern in patterns:
            view = View(body, graph, ranks)
            nodes: list[Node] = []
            for node in body.nodes:
                replacement = pattern(node, view)
                new = node if replacement is None else replacement
                nodes += new if isinstance(new, tuple) else (new,)
            body.nodes = nodes
        graph.drop_unread()
