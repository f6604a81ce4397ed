"""Multiply-accumulates of a graph, from the shapes alone: convolutions, matrix products, attention, recurrent layers.

What is counted is what hardware multiplies; additions, activations, norms and the softmax are not.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from worker.engine.torch_program.operators import operator_name
from worker.engine.torch_program.shapes import Shape

ShapeOf = Callable[[fx.Node], Any]
"""Of a node: the shape of a tensor, or a list of them."""
ALSO_MULTIPLY = frozenset(
    {
        "_convolution",
        "_native_multi_head_attention",
        "_trilinear",
        "bilinear",
        "cdist",
        "chain_matmul",
        "conv_tbc",
        "convolution",
        "einsum",
        "gru_cell",
        "inner",
        "linalg_multi_dot",
        "lstm_cell",
        "rnn_relu_cell",
        "rnn_tanh_cell",
        "tensordot",
        "torchvision::deform_conv2d",
    }
)
"""Operators that multiply and are not counted."""


def count_macs(graph: fx.Graph, shape_of: ShapeOf, rows: int) -> int:
    """Multiply-accumulates for one of `rows` rows."""
    return sum(macs for node in graph.nodes if (macs := _macs(node, shape_of))) // max(rows, 1)


def uncounted(graph: fx.Graph) -> dict[str, int]:
    """How often operators occur that multiply and are not counted."""
    return dict(Counter(name for node in graph.nodes if (name := operator_name(node)) in ALSO_MULTIPLY))


def _macs(node: fx.Node, shape_of: ShapeOf) -> int:
    count = COUNTED.get(operator_name(node)) if node.op == "call_function" else None
    return count(node, shape_of) if count is not None else 0


def _convolution(node: fx.Node, shape_of: ShapeOf) -> int:
    """Each output is a sum over the input channels of a group and the window."""
    return math.prod(shape_of(node)) * math.prod(shape_of(_arg(node, 1))[1:])


def _transposed(node: fx.Node, shape_of: ShapeOf) -> int:
    """Each input adds to the output channels of a group over the window."""
    return math.prod(shape_of(_arg(node, 0))) * math.prod(shape_of(_arg(node, 1))[1:])


def _product(first: int) -> Callable[[fx.Node, ShapeOf], int]:
    """Each output is a sum over the last dimension of the argument in this place."""

    def count(node: fx.Node, shape_of: ShapeOf) -> int:
        return math.prod(shape_of(node)) * (shape_of(_arg(node, first)) or (1,))[-1]

    return count


def _attention(node: fx.Node, shape_of: ShapeOf) -> int:
    """Query times key, and that times value, for every pair of positions; the mask saves nothing."""
    query, key, value = (shape_of(_arg(node, place)) for place in range(3))
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(node: fx.Node, shape_of: ShapeOf) -> int:
    """Both matrices of every layer and direction, for every step of every row."""
    series: Shape = shape_of(_arg(node, 0))
    weights: Any = node.args[2]
    matrices = (shape for weight in weights if len(shape := shape_of(weight)) == 2)
    return math.prod(series[:-1]) * sum(math.prod(shape) for shape in matrices)


def _arg(node: fx.Node, place: int) -> fx.Node:
    argument = node.args[place] if place < len(node.args) else list(node.kwargs.values())[place - len(node.args)]
    if not isinstance(argument, fx.Node):
        raise TypeError(f"argument {place} of {node.name} is no tensor")
    return argument


COUNTED: Mapping[str, Callable[[fx.Node, ShapeOf], int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("linear", "matmul", "mm", "bmm", "mv", "dot"), _product(0)),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _product(1)),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
}
