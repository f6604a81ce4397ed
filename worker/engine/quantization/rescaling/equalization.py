"""Cross-layer equalization: two layers in a row share out the sizes of the channels between them.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019: a ReLU lets a
positive factor pass, so a channel may be divided by it in the first layer and multiplied by it in the second.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.onnx_graph.layers import has_fixed_outputs, is_layer, largest, scale_inputs, scale_outputs, weight_of
from worker.engine.quantization.statistics.extremes import ChannelExtremes

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"})
"""Operators that a positive factor of a channel passes through."""
ROUNDS = 30
SETTLED = 1e-3
"""Largest change of a factor, as a logarithm, at which the search ends."""
WIDEST = 1e3
"""A channel is changed by this factor at most: one that is dead has no size of its own to go by."""
HEADROOM = 1.1
"""How much more than it was seen to reach a channel may reach before a ReLU6 acts on it."""


@dataclass(frozen=True)
class LayerPair:
    """Two layers and the values between them."""

    first: NodeProto
    second: NodeProto
    values: tuple[str, ...]
    """From the output of the first to the input of the second."""
    bounds: tuple[tuple[str, float], ...]
    """Inputs of clamps to 0 ... bound on the way, each with its bound."""


@dataclass(frozen=True)
class Equalized:
    """What was done, for the report."""

    pairs: int
    channels: int
    """Channels whose factor is not 1."""
    largest: float
    """The largest factor or divisor of a channel."""


def find_pairs(index: GraphIndex) -> tuple[LayerPair, ...]:
    """Pairs of layers with weights of their own, whose channels in between nothing else reads, in graph order."""
    layers = (node for node in index.graph.node if node.op_type in ("Conv", "Gemm") and is_layer(index, node))
    return tuple(pair for node in layers if has_fixed_outputs(index, node) for pair in _pair(index, node))


def _pair(index: GraphIndex, first: NodeProto) -> Iterator[LayerPair]:
    value, values = first.output[0], [first.output[0]]
    bounds: list[tuple[str, float]] = []
    while (node := index.only_reader(value)) is not None:
        if node.op_type == first.op_type and node.input[0] == value and is_layer(index, node):
            yield LayerPair(first, node, tuple(values), tuple(bounds))
            return
        if node.op_type == "Clip" and (bound := _upper_bound(index, node)) is not None:
            bounds.append((value, bound))
        elif node.op_type not in HOMOGENEOUS or len(node.output) != 1:
            return
        value = node.output[0]
        values.append(value)
        if index.rank(value) is None:
            return


def _upper_bound(index: GraphIndex, clip: NodeProto) -> float | None:
    """The bound of a clamp to 0 ... bound; None for any other."""
    names = clip.input[1:3]
    if len(names) != 2 or not all(name in index.constants for name in names):
        return None
    low, high = (float(index.array(name).reshape(-1)[0]) for name in names)
    return high if low == 0 < high else None


def watched(pairs: tuple[LayerPair, ...]) -> dict[str, int]:
    """The values whose channels `equalize` must know, with the axis that counts channels."""
    return {name: 1 for pair in pairs for name in (*(value for value, _ in pair.bounds), pair.values[-1])}


def equalize(
    index: GraphIndex, pairs: tuple[LayerPair, ...], seen: Mapping[str, ChannelExtremes], *, per_channel: bool
) -> Equalized:
    """Rescale the pairs' weights and biases in place until their channels agree in size.

    In the paper that is the largest magnitude of a channel's weights in both layers, for layers with one weight scale.
    With a scale for each output channel the first layer's weights need no help; what shares a scale are the
    activations in between, and they are balanced against the second layer's weights instead. `seen` tells what they
    reached on the calibration rows. A channel that a ReLU6 acted on stays as it is; the others keep below its bound.
    """
    factors = {pair.values[0]: np.ones(weight_of(index, pair.first).shape[:2]).reshape(-1) for pair in pairs}
    sizes = _Sizes(index)
    for _ in range(ROUNDS):
        moved = 0.0
        for pair in pairs:
            divisor = factors[pair.values[0]]
            between = seen[pair.values[-1]].magnitude / divisor
            step = _balance(between if per_channel else sizes.outgoing(pair.first), sizes.incoming(pair.second))
            step = _allowed(divisor * step, pair, seen) / divisor
            sizes.divide(pair, step)
            factors[pair.values[0]] = divisor * step
            moved = max(moved, float(np.abs(np.log(step)).max()))
        if moved < SETTLED:
            break
    for pair in pairs:
        scale_outputs(index, pair.first, 1 / factors[pair.values[0]])
        scale_inputs(index, pair.second, factors[pair.values[0]])
    for name in (value for pair in pairs for value in pair.values):
        index.rename(name, f"{name}/equalized")
    changed = sum(int((np.abs(np.log(factor)) > SETTLED).sum()) for factor in factors.values())
    return Equalized(len(pairs), changed, largest(factors.values()))


def _balance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The divisors of the first that make both equal; 1 where either is 0."""
    alive = (first > 0) & (second > 0)
    return np.sqrt(np.divide(first, second, out=np.ones(len(first)), where=alive))


def _allowed(divisor: np.ndarray, pair: LayerPair, seen: Mapping[str, ChannelExtremes]) -> np.ndarray:
    """The divisors of a pair's channels within `WIDEST` and what its clamps allow."""
    divisor = np.clip(divisor, 1 / WIDEST, WIDEST)
    for value, bound in pair.bounds:
        least = HEADROOM * np.maximum(seen[value].high, 0) / bound
        divisor = np.where(least < 1, np.maximum(divisor, least), 1.0)
    return divisor


class _Sizes:
    """The largest magnitude of each layer's weights by output and input channel, kept up to date."""

    def __init__(self, index: GraphIndex) -> None:
        self._index = index
        self._of: dict[str, np.ndarray] = {}

    def outgoing(self, node: NodeProto) -> np.ndarray:
        return self._sizes(node).max(axis=2).reshape(-1)

    def incoming(self, node: NodeProto) -> np.ndarray:
        return self._sizes(node).max(axis=1).reshape(-1)

    def divide(self, pair: LayerPair, step: np.ndarray) -> None:
        first, second = self._sizes(pair.first), self._sizes(pair.second)
        first /= step.reshape(len(first), -1, 1)
        second *= step.reshape(len(second), 1, -1)

    def _sizes(self, node: NodeProto) -> np.ndarray:
        """`[groups, outputs of a group, inputs of a group]`, float64."""
        name = node.input[1]
        if name not in self._of:
            self._of[name] = np.abs(weight_of(self._index, node)).max(axis=3).astype(np.float64)
        return self._of[name]
