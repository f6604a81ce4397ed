"""Codes in a program: the quantize and dequantize operators of `torch.ops.quantized_decomposed` around float ones.

The form that PyTorch's own quantizers leave (PT2E, "reference quantized model"): every converter of exported programs
looks for `dequantize -> operator -> quantize` and makes one integer kernel of it. Weights are int8 constants in front
of a dequantize.
"""

from dataclasses import dataclass, replace
from operator import getitem
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from torch import fx

CODES = torch.ops.quantized_decomposed
LOWEST, HIGHEST = -128, 127
CLAMPS = frozenset({torch.ops.aten.relu.default, torch.ops.aten.hardtanh.default})
EPSILON = float(np.finfo(np.float32).eps)
"""The smallest scale that is chosen at run time."""


@dataclass(frozen=True)
class Activation:
    """How one tensor is quantized: value = scale * (code - zero_point), int8 codes."""

    scale: float
    zero_point: int
    low: int = LOWEST
    high: int = HIGHEST
    """Codes outside `low` ... `high` are not used."""


@dataclass(frozen=True)
class QuantizedWeight:
    """An int8 weight in the layout of the operator that reads it; zero-points are 0."""

    codes: np.ndarray
    scales: np.ndarray
    """float32, one for each channel along `axis`, or one for all."""
    axis: int
    bits: int = 8
    """Of a code."""

    @property
    def limits(self) -> tuple[int, int]:
        """The codes that converters are told of: with 8 bits the symmetric ones."""
        return (-HIGHEST, HIGHEST) if self.bits == 8 else (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)

    def transposed(self) -> "QuantizedWeight":
        """The weight of the transposed matrix: its axis of scales is the other."""
        return replace(self, codes=np.ascontiguousarray(self.codes.T), axis=1 - self.axis)


def rounded(weight: np.ndarray, axis: int) -> QuantizedWeight:
    """Symmetric codes -127 ... 127 with a scale for each channel, from its largest magnitude."""
    others = tuple(other for other in range(weight.ndim) if other != axis)
    largest = np.abs(weight).max(others, keepdims=True)
    scales = np.where(largest > 0, largest / HIGHEST, 1.0).astype(np.float32)
    codes = np.clip(np.rint(weight / scales), -HIGHEST, HIGHEST).astype(np.int8)
    return QuantizedWeight(codes, scales.reshape(-1), axis)


def constant(module: fx.GraphModule, name: str, values: np.ndarray) -> fx.Node:
    """A buffer with these values, by a free name like this one, at the insertion point."""
    name = free = name.replace(".", "_").replace("/", "_").replace(":", "_")
    number = 0
    while hasattr(module, free):
        number += 1
        free = f"{name}_{number}"
    module.register_buffer(free, torch.from_numpy(np.array(values, order="C")))
    return module.graph.get_attr(free)


def dequantized(module: fx.GraphModule, name: str, weight: QuantizedWeight) -> fx.Node:
    """An int8 constant and its dequantize, at the insertion point."""
    codes = constant(module, f"{name}_codes", weight.codes)
    if len(weight.scales) == 1 < weight.codes.shape[weight.axis]:
        args = (codes, float(weight.scales[0]), 0, *weight.limits, torch.int8)
        return module.graph.call_function(CODES.dequantize_per_tensor.default, args)
    scales = constant(module, f"{name}_scales", weight.scales)
    zeros = constant(module, f"{name}_zeros", np.zeros(len(weight.scales), np.int64))
    return module.graph.call_function(
        CODES.dequantize_per_channel.default, (codes, scales, zeros, weight.axis, *weight.limits, torch.int8)
    )


def quantize(module: fx.GraphModule, node: fx.Node, how: Activation) -> None:
    """Have everything that reads a value read it rounded; each reader gets a dequantize of its own."""
    graph, value = module.graph, node
    if (how.low, how.high) != (LOWEST, HIGHEST):
        value = _clamped(module, node, how)
    readers = list(value.users)
    grid = (how.scale, how.zero_point, LOWEST, HIGHEST, torch.int8)
    with graph.inserting_after(value):
        codes = graph.call_function(CODES.quantize_per_tensor.default, (value, *grid))
    for reader in readers:
        with graph.inserting_before(reader):
            reader.replace_input_with(value, graph.call_function(CODES.dequantize_per_tensor.default, (codes, *grid)))


def _clamped(module: fx.GraphModule, node: fx.Node, how: Activation) -> fx.Node:
    """The value cut to what its codes reach; a clamp that makes it takes over the bounds, so that kernels fuse it."""
    low, high = (how.scale * (code - how.zero_point) for code in (how.low, how.high))
    hardtanh = torch.ops.aten.hardtanh.default
    if node.target in CLAMPS:
        given: Any = node.args[1:]
        bounds = (*given, *(-1.0, 1.0)[len(given) :]) if node.target is hardtanh else (0.0, float("inf"))
        node.target, node.args = hardtanh, (node.args[0], max(low, bounds[0]), min(high, bounds[1]))
        return node
    with module.graph.inserting_after(node):
        clamp = module.graph.call_function(hardtanh, (node, low, high))
    node.replace_all_uses_with(clamp, delete_user_cb=lambda user: user is not clamp)
    return clamp


def quantize_at_run_time(module: fx.GraphModule, reader: fx.Node, value: fx.Node) -> None:
    """Have one reader read a value rounded on a grid that is chosen for each call."""
    graph, codes = module.graph, (LOWEST, HIGHEST)
    with graph.inserting_before(reader):
        chosen = graph.call_function(CODES.choose_qparams.tensor, (value, *codes, EPSILON, torch.int8))
        grid = [graph.call_function(getitem, (chosen, place)) for place in (0, 1)]
        rounded_ = graph.call_function(CODES.quantize_per_tensor.tensor, (value, *grid, *codes, torch.int8))
        back = graph.call_function(CODES.dequantize_per_tensor.tensor, (rounded_, *grid, *codes, torch.int8))
    reader.replace_input_with(value, back)
