"""Layers of a graph whose weight is one parameter: linear layers, matrix products and convolutions."""

import difflib
import fnmatch
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from worker.engine.pruning.channels.errors import UnknownLayer

aten = torch.ops.aten

CONVOLUTIONS = frozenset({aten.conv1d.default, aten.conv2d.default, aten.conv3d.default})
"""Also with `padding="same"`, which is another overload."""
PADDED = frozenset({aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding})
PRODUCTS = {aten.mm.default: (0, 1), aten.matmul.default: (0, 1), aten.addmm.default: (1, 2)}
"""Positions of the activations, `[..., inputs]`, and of the weight, `[inputs, outputs]`."""
GROUPS_ARGUMENT = 6
MATRIX_AXES = 2


@dataclass(frozen=True)
class WeightedLayer:
    """One weight, and the place where it meets its activations."""

    name: str
    """The parameter's name without `.weight`."""
    parameter: str
    activation: fx.Node | None
    """What it meets where it is first used; None in an ONNX graph."""
    convolution: bool
    transposed: bool
    """The weight is `[inputs, outputs]`."""
    groups: int = 1

    def rows(self, weight: Tensor) -> Tensor:
        """The weight as `[outputs, places in the kernel, inputs of the group]`."""
        if self.convolution:
            return weight.flatten(2).transpose(1, 2)
        return (weight.t() if self.transposed else weight).unsqueeze(1)

    def as_weight(self, rows: Tensor, like: Tensor) -> Tensor:
        """`rows` in the layout of the weight."""
        if self.convolution:
            return rows.transpose(1, 2).reshape(like.shape)
        return rows.squeeze(1).t() if self.transposed else rows.squeeze(1)

    def square_sums(self, activations: Tensor) -> Tensor:
        """Sum of the squares of each input, float64 `[inputs]`."""
        axis = 1 if self.convolution else -1
        return activations.double().square().movedim(axis, 0).flatten(1).sum(1)

    def input_norms(self, square_sums: Tensor) -> Tensor:
        """Norms of the inputs as they meet the rows: `[outputs or 1, 1, inputs of the group]`, 1 without groups."""
        return square_sums.sqrt().float().reshape(self.groups, 1, -1)


def weighted_layers(module: fx.GraphModule) -> tuple[WeightedLayer, ...]:
    """Every layer with a floating weight of its own, in the order of the graph; a shared weight is one layer."""
    parameters = dict(module.named_parameters())
    layers: dict[str, WeightedLayer] = {}
    for node in module.graph.nodes:
        layer = _layer(node)
        if layer is None or layer.parameter in layers:
            continue
        weight = parameters.get(layer.parameter)
        if weight is not None and weight.is_floating_point() and weight.ndim >= MATRIX_AXES:
            layers[layer.parameter] = layer
    return tuple(layers.values())


def chosen(
    layers: tuple[WeightedLayer, ...], include: Collection[str], exclude: Collection[str]
) -> tuple[WeightedLayer, ...]:
    """The layers that a pattern of `include` matches (all without one) and none of `exclude`. Raises `UnknownLayer`."""
    names = [layer.name for layer in layers]
    for pattern in (*include, *exclude):
        if names and not fnmatch.filter(names, pattern):
            close = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4) or names[:3]
            raise UnknownLayer(f"No layer of the model is called '{pattern}'; close to it are {', '.join(close)}.")

    def matches(name: str, patterns: Collection[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return tuple(
        layer for layer in layers if (not include or matches(layer.name, include)) and not matches(layer.name, exclude)
    )


def _layer(node: fx.Node) -> WeightedLayer | None:
    if node.op != "call_function":
        return None
    convolution = node.target in CONVOLUTIONS or node.target in PADDED
    if convolution or node.target is aten.linear.default:
        places = (0, 1)
    elif node.target in PRODUCTS:
        places = PRODUCTS[node.target]
    else:
        return None
    activation, weight = (node.args[place] for place in places)
    if not isinstance(weight, fx.Node) or weight.op != "get_attr" or not isinstance(activation, fx.Node):
        return None
    parameter = str(weight.target)
    return WeightedLayer(
        parameter.removesuffix(".weight"),
        parameter,
        activation,
        convolution,
        node.target in PRODUCTS,
        _groups(node) if convolution else 1,
    )


def _groups(node: fx.Node) -> int:
    given = node.args[GROUPS_ARGUMENT] if len(node.args) > GROUPS_ARGUMENT else node.kwargs.get("groups", 1)
    return int(given)  # type: ignore[arg-type]  # an integer of the graph
