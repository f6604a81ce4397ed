"""Batch norms folded into the convolution or matrix product before them: one operator, one weight, the same result."""

from collections import Counter
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

ATEN = torch.ops.aten
OUTPUT_AXIS: dict[Any, int] = {
    ATEN.conv1d.default: 0,
    ATEN.conv2d.default: 0,
    ATEN.conv2d.padding: 0,
    ATEN.conv3d.default: 0,
    ATEN.linear.default: 0,
    ATEN.conv_transpose1d.default: 1,
    ATEN.conv_transpose2d.input: 1,
}
"""Operators with a weight and a bias, and the axis of the weight that numbers the output channels."""
TRANSPOSED_GROUPS = 6
"""Position of `groups` among a transposed convolution's arguments."""


def fold_batch_norms(module: fx.GraphModule) -> int:
    """Fold every batch norm that follows a layer alone, in place; the number folded.

    `y = g (w x + b - m) / sqrt(v + e) + h` becomes a layer with the weight `w s` and the bias `(b - m) s + h`, where
    `s = g / sqrt(v + e)`. The statistics stay what they are: later training moves weight and bias only. The layer keeps
    the names of its parameters; one without a bias gets one beside its weight. Left alone are batch norms in training
    mode, over another axis than the layer's (tokens, behind a linear layer on `[rows, tokens, channels]`), behind a
    layer whose result or parameters something else uses, too, or behind grouped transposed convolutions.
    """
    readers = Counter(str(node.target) for node in module.graph.find_nodes(op="get_attr") for _ in node.users)
    folded = 0
    for norm in module.graph.find_nodes(op="call_function", target=ATEN.batch_norm.default):
        layer: fx.Node = norm.args[0]
        if _foldable(norm, layer, readers):
            _fold(module, norm, layer)
            folded += 1
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return folded


def _foldable(norm: fx.Node, layer: fx.Node, readers: Counter[str]) -> bool:
    training = norm.args[5]
    if layer.target is ATEN.linear.default and layer.meta["val"].ndim != 2:
        return False
    if layer.target not in OUTPUT_AXIS or len(layer.users) > 1 or training or None in norm.args[3:5]:
        return False
    grouped = OUTPUT_AXIS[layer.target] and layer.args[TRANSPOSED_GROUPS : TRANSPOSED_GROUPS + 1] not in ((), (1,))
    parameters = [node for node in layer.args[1:3] if isinstance(node, fx.Node)]
    return not grouped and all(node.op == "get_attr" and readers[str(node.target)] == 1 for node in parameters)


def _fold(module: fx.GraphModule, norm: fx.Node, layer: fx.Node) -> None:
    weight, bias = (_value(module, layer, place) for place in (1, 2))
    gamma, beta, mean, variance = (_value(module, norm, place) for place in (1, 2, 3, 4))
    if weight is None or mean is None or variance is None:
        raise ValueError("a layer without a weight, or a batch norm without statistics")
    epsilon: Any = norm.args[7]
    scale = torch.rsqrt(variance + epsilon)
    scale = scale if gamma is None else scale * gamma
    shifted = (-mean if bias is None else bias - mean) * scale
    shape = [1] * weight.ndim
    shape[OUTPUT_AXIS[layer.target]] = -1
    name = _name(layer, 1)
    _store(module, name, weight * scale.view(shape))
    bias_name = _beside(module, name) if bias is None else _name(layer, 2)
    _store(module, bias_name, shifted if beta is None else shifted + beta)
    if bias is None:
        with module.graph.inserting_before(layer):
            layer.args = (*layer.args[:2], module.graph.get_attr(bias_name), *layer.args[3:])
    norm.replace_all_uses_with(layer)
    module.graph.erase_node(norm)


def _name(node: fx.Node, place: int) -> str:
    """The name of the parameter or buffer that is this argument of a node, '' if there is none."""
    given = node.args[place] if place < len(node.args) else None
    return str(given.target) if isinstance(given, fx.Node) else ""


def _value(module: fx.GraphModule, node: fx.Node, place: int) -> Tensor | None:
    """That parameter or buffer, for computing without gradients."""
    name = _name(node, place)
    if not name:
        return None
    value: Tensor = attrgetter(name)(module)
    return value.detach()


def _store(module: fx.GraphModule, name: str, value: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(owner), attribute, nn.Parameter(value.contiguous()))


def _beside(module: fx.GraphModule, weight: str) -> str:
    """A free name for the bias of the layer with this weight."""
    owner, _, _ = weight.rpartition(".")
    name = "bias"
    while hasattr(module.get_submodule(owner), name):
        name += "_"
    return f"{owner}.{name}" if owner else name
