"""SmoothQuant: the outlier channels behind a normalization are made smaller there, and larger in the weights they meet.

G. Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", ICML 2023.
The divisors go into the normalization's own scale and shift, so that nothing is added to the graph; where something
other than matrix products reads its output, as the residual stream of a BERT does, that is not possible.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from worker.engine.onnx_graph.index import GraphIndex, attributes
from worker.engine.onnx_graph.layers import is_layer, largest, scale_inputs, weight_of
from worker.engine.quantization.statistics.extremes import ChannelExtremes

NORMALIZATIONS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
PRODUCTS = frozenset({"MatMul", "Gemm"})
SMALLEST = 1e-5
"""Of channels' magnitudes, as in the paper's code: a channel that is always 0 is left."""


@dataclass(frozen=True)
class SmoothedGroup:
    """A normalization and the matrix products that alone read it."""

    source: str
    """The value they read, whose last axis counts channels."""
    affine: tuple[tuple[NodeProto, int], ...]
    """The operands, by node and place, that scale and shift its channels."""
    readers: tuple[NodeProto, ...]
    between: tuple[str, ...]
    """The source and what only moves it about."""


@dataclass(frozen=True)
class Smoothed:
    """What was done, for the report."""

    groups: int
    largest: float
    """The largest divisor of a channel, or its reciprocal."""


def find_groups(index: GraphIndex) -> tuple[SmoothedGroup, ...]:
    """Normalizations whose every reader is a matrix product with a weight of its own, in graph order."""
    groups = (_group(index, node) for node in index.graph.node)
    return tuple(group for group in groups if group is not None)


def _group(index: GraphIndex, node: NodeProto) -> SmoothedGroup | None:
    affine = _affine(index, node)
    source = affine[-1][0].output[0] if affine else ""
    if index.rank(source) is None:
        return None
    readers: list[NodeProto] = []
    between: list[str] = []
    if not _only_products(index, source, readers, between) or not readers:
        return None
    return SmoothedGroup(source, affine, tuple(readers), tuple(between))


def _affine(index: GraphIndex, node: NodeProto) -> tuple[tuple[NodeProto, int], ...]:
    """The scale and shift of a normalization, written as one operator or as Mul and Add; empty for anything else."""
    if node.op_type in NORMALIZATIONS:
        axis = attributes(node).get("axis", -1)
        last = axis in (-1, (index.rank(node.output[0]) or 0) - 1)
        places = [place for place in (1, 2) if place < len(node.input) and node.input[place]]
        whole = last and all(index.is_vector(node.input[place]) for place in places)
        return tuple((node, place) for place in places) if whole else ()
    scale = _vector(index, node) if node.op_type == "Mul" else None
    if scale is None:
        return ()
    adds = index.only_reader(node.output[0])
    shift = _vector(index, adds) if adds is not None and adds.op_type == "Add" else None
    return ((node, scale),) if adds is None or shift is None else ((node, scale), (adds, shift))


def _vector(index: GraphIndex, node: NodeProto) -> int | None:
    """Which operand of a Mul or Add is a constant for each channel of the last axis."""
    places = [place for place, name in enumerate(node.input) if index.is_vector(name)]
    return places[0] if len(places) == 1 and len(index.array(node.input[places[0]])) > 1 else None


def _only_products(index: GraphIndex, value: str, readers: list[NodeProto], between: list[str]) -> bool:
    """Collect the matrix products that read a value; whether nothing else does."""
    between.append(value)
    nodes = index.readers(value)
    if nodes is None or index.rank(value) is None:
        return False
    for node in nodes:
        if node.op_type in PRODUCTS and node.input[0] == value and is_layer(index, node):
            readers.append(node)
        elif not (_keeps_last_axis(index, node, value) and _only_products(index, node.output[0], readers, between)):
            return False
    return True


def _keeps_last_axis(index: GraphIndex, node: NodeProto, value: str) -> bool:
    """Whether a node only moves a value about, with its channels still last."""
    last = (index.rank(value) or 0) - 1
    given = attributes(node)
    if node.op_type == "Transpose":
        order = given.get("perm")
        return isinstance(order, list) and order[-1] == last
    return node.op_type == "Gather" and node.input[0] == value and given.get("axis", 0) not in (-1, last)


def watched(groups: tuple[SmoothedGroup, ...]) -> dict[str, int]:
    """The values whose channels `smooth` must know, with the axis that counts channels."""
    return {group.source: -1 for group in groups}


def smooth(
    index: GraphIndex, groups: tuple[SmoothedGroup, ...], seen: Mapping[str, ChannelExtremes], *, alpha: float
) -> Smoothed:
    """Divide channels in place by max|activation|^alpha / max|weight|^(1 - alpha).

    Alpha is the share of the difficulty that moves into the weights. `seen` tells what the activations reached on the
    calibration rows.
    """
    divisors = []
    for group in groups:
        activations = seen[group.source].magnitude.astype(np.float64)
        weights = np.max([np.abs(weight_of(index, node)).max(axis=(0, 1, 3)) for node in group.readers], axis=0)
        alive = (activations > SMALLEST) & (weights > SMALLEST)
        divisor = np.where(alive, activations, 1) ** alpha / np.where(alive, weights, 1) ** (1 - alpha)
        for node, place in group.affine:
            name = index.unshared(node, place)
            index.write(name, index.array(name) / divisor)
        for node in group.readers:
            scale_inputs(index, node, divisor)
        for name in group.between:
            index.rename(name, f"{name}/smoothed")
        divisors.append(divisor)
    return Smoothed(len(groups), largest(divisors))
