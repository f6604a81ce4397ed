"""Layers of a graph whose weight is one parameter: products, convolutions, recurrent layers and embeddings."""

import difflib
import fnmatch
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx

from worker.engine.pruning.channels.errors import UnknownLayer
from worker.engine.torch_program.operators import operator_name, parameters_of

Layout = Literal["linear", "matrix", "convolution", "transposed_convolution"]
"""`[..., outputs, inputs]`, `[..., inputs, outputs]`, `[outputs, inputs, *kernel]`, `[inputs, outputs, *kernel]`; the
second size of a kernel with groups is that of one group. An embedding, `[rows, columns]`, is laid out as linear."""
Permutation = tuple[int, ...]

MATRIX_AXES = 2
ALIKE = frozenset({"alias", "clone", "contiguous", "detach", "to", "_to_copy", "lift_fresh_copy"})
"""What a weight may pass and keep its layout."""
RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
WEIGHTED: Mapping[str, tuple[str, str, Layout]] = {
    "linear": ("input", "weight", "linear"),
    "mm": ("self", "mat2", "matrix"),
    "bmm": ("self", "mat2", "matrix"),
    "matmul": ("self", "other", "matrix"),
    "addmm": ("mat1", "mat2", "matrix"),
    "baddbmm": ("batch1", "batch2", "matrix"),
    **{f"conv{axes}d": ("input", "weight", "convolution") for axes in (1, 2, 3)},
    **{f"conv_transpose{axes}d": ("input", "weight", "transposed_convolution") for axes in (1, 2, 3)},
}
"""By operator: what it names its activations and its weight, and how that is laid out."""


@dataclass(frozen=True)
class WeightedLayer:
    """One weight, and the place where it meets its activations."""

    name: str
    """The parameter's name without `.weight`."""
    parameter: str
    activation: fx.Node | None
    """What it meets where it is first used; None where no value of the graph is that, as in an ONNX graph."""
    layout: Layout
    groups: int = 1
    permutation: Permutation | None = None
    """How the parameter's dimensions become the weight's; None where they are the same."""

    @property
    def convolution(self) -> bool:
        """Whether the weight slides over positions."""
        return self.layout in {"convolution", "transposed_convolution"}

    def rows(self, parameter: Tensor) -> Tensor:
        """The weight as `[outputs, places in the kernel, inputs of the group]`."""
        weight = parameter if self.permutation is None else parameter.permute(self.permutation)
        match self.layout:
            case "linear":
                return weight.flatten(0, -2).unsqueeze(1)
            case "matrix":
                return weight.transpose(-1, -2).flatten(0, -2).unsqueeze(1)
            case "convolution":
                return weight.flatten(2).transpose(1, 2)
            case "transposed_convolution":
                grouped = weight.flatten(2).unflatten(0, (self.groups, -1))
                return grouped.permute(0, 2, 3, 1).flatten(0, 1)

    def as_weight(self, rows: Tensor, like: Tensor) -> Tensor:
        """`rows` in the layout of the parameter `like`."""
        shape = like.shape if self.permutation is None else like.permute(self.permutation).shape
        weight = self._from_rows(rows, shape)
        if self.permutation is None:
            return weight
        return weight.permute(sorted(range(len(shape)), key=self.permutation.__getitem__))

    def square_sums(self, activations: Tensor) -> Tensor:
        """Sum of the squares of each input, float64 `[inputs]`."""
        axis = 1 if self.convolution else -1
        return activations.double().square().movedim(axis, 0).flatten(1).sum(1)

    def input_norms(self, square_sums: Tensor) -> Tensor:
        """Norms of the inputs as they meet the rows: `[outputs or 1, 1, inputs of the group]`, 1 without groups."""
        return square_sums.sqrt().float().reshape(self.groups, 1, -1)

    def _from_rows(self, rows: Tensor, shape: torch.Size) -> Tensor:
        match self.layout:
            case "linear":
                return rows.reshape(shape)
            case "matrix":
                return rows.reshape(*shape[:-2], shape[-1], shape[-2]).transpose(-1, -2)
            case "convolution":
                return rows.transpose(1, 2).reshape(shape)
            case "transposed_convolution":
                grouped = rows.unflatten(0, (self.groups, -1))
                return grouped.permute(0, 3, 1, 2).reshape(shape)


@dataclass(frozen=True)
class _Source:
    """The parameter that a value is, its dimensions in another order."""

    parameter: str
    permutation: Permutation


def weighted_layers(module: fx.GraphModule) -> tuple[WeightedLayer, ...]:
    """Every layer with a floating weight of its own, in the order of the graph; a shared weight is one layer.

    Layers of the branches of a condition are among them, after their condition.
    """
    own = {id(parameter): name for name, parameter in module.named_parameters()}
    sources = {
        name: _Source(own[id(parameter)], tuple(range(parameter.ndim)))
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if parameter.is_floating_point() and parameter.ndim >= MATRIX_AXES
    }
    layers: dict[str, WeightedLayer] = {}
    for layer in _Graph(module, sources, {}).layers():
        layers.setdefault(layer.parameter, layer)
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


@dataclass(frozen=True)
class _Graph:
    """A graph and what is known of the values it is given."""

    module: fx.GraphModule
    parameters: Mapping[str, _Source]
    """By every name of each weight of the whole module; tied ones have several."""
    given: Mapping[fx.Node, _Source]
    """The placeholders of a branch that are parameters of the whole module."""
    branch: bool = False

    def layers(self) -> Iterator[WeightedLayer]:
        for node in self.module.graph.nodes:
            if node.op == "call_function":
                yield from self._layers_of(node)

    def _layers_of(self, node: fx.Node) -> Iterator[WeightedLayer]:
        name = operator_name(node)
        if name == "cond":
            yield from self._branches(node)
        elif name in WEIGHTED:
            activation, weight, layout = WEIGHTED[name]
            groups = _argument(node, "groups") if "conv" in name else 1
            yield from self._layer(_argument(node, weight), _argument(node, activation), layout, groups)
            if name == "matmul":  # a weight times activations: [outputs, inputs] x [inputs, ...]
                yield from self._layer(_argument(node, activation), None, "linear")
        elif name in RECURRENT:
            for number, weight in enumerate(_argument(node, "params")):
                yield from self._layer(weight, _argument(node, "input") if number == 0 else None, "linear")
        elif name == "embedding":
            yield from self._layer(_argument(node, "weight"), None, "linear")

    def _layer(self, weight: Any, activation: Any, layout: Layout, groups: int = 1) -> Iterator[WeightedLayer]:
        source = self._source(weight)
        if source is None:
            return
        whole = source.permutation == tuple(range(len(source.permutation)))
        measured = activation if isinstance(activation, fx.Node) and not self.branch else None
        name = source.parameter
        yield WeightedLayer(
            name.removesuffix(".weight"), name, measured, layout, groups, None if whole else source.permutation
        )

    def _branches(self, node: fx.Node) -> Iterator[WeightedLayer]:
        _, first, second, operands = node.args
        for branch in (first, second):
            module = getattr(self.module, str(branch.target))  # type: ignore[union-attr]
            places = [place for place in module.graph.nodes if place.op == "placeholder"]
            sources = {place: self._source(operand) for place, operand in zip(places, operands, strict=True)}  # type: ignore[arg-type]
            known = {place: source for place, source in sources.items() if source is not None}
            yield from _Graph(module, self.parameters, known, branch=True).layers()

    def _source(self, value: Any) -> _Source | None:
        """The parameter that a value is, if it is one."""
        if not isinstance(value, fx.Node):
            return None
        if value in self.given:
            return self.given[value]
        if value.op == "get_attr":
            return self.parameters.get(str(value.target))
        if value.op != "call_function" or not value.args:
            return None
        source, name = self._source(value.args[0]), operator_name(value)
        if source is None or name in ALIKE:
            return source
        return _permuted(source, value, name)


def _permuted(source: _Source, node: fx.Node, name: str) -> _Source | None:
    """The same parameter, behind an operator that reorders dimensions; None behind any other."""
    axes = list(range(len(source.permutation)))
    if name in {"t", "numpy_T", "mT"}:
        axes[-2:] = reversed(axes[-2:])
    elif name in {"transpose", "swapaxes", "swapdims"}:
        first, second = (int(axis) for axis in node.args[1:3])  # type: ignore[arg-type]
        axes[first], axes[second] = axes[second], axes[first]
    elif name == "permute":
        axes = [axes[axis] for axis in node.args[1]]  # type: ignore[union-attr,index]
    else:
        return None
    return _Source(source.parameter, tuple(source.permutation[axis] for axis in axes))


def _argument(node: fx.Node, name: str) -> Any:
    for position, parameter in enumerate(parameters_of(node)):
        if parameter.name == name:
            return node.args[position] if position < len(node.args) else node.kwargs.get(name, parameter.default_value)
    return None
