"""Taking channels out of the graph, and, to compare with, setting them to zero in it."""

import operator
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx

from worker.engine.pruning.channels.analysis import Channels
from worker.engine.pruning.channels.edit import Edit
from worker.engine.pruning.channels.rules.table import REWRITES

Kept = dict[str, dict[int, np.ndarray]]
"""By parameter and dimension: the positions that are left, ascending. What is whole is not in it."""


def kept_positions(channels: Channels, pruned_mask: np.ndarray) -> Kept:
    """What is left of each parameter that loses something. `pruned_mask` says for each class whether it goes."""
    kept: Kept = {}
    for name, dims in channels.parameters.items():
        for axis, labels in enumerate(dims):
            gone = pruned_mask[labels]
            if gone.any():
                kept.setdefault(name, {})[axis] = np.flatnonzero(~gone)
    return kept


def removed(channels: Channels, pruned_mask: np.ndarray) -> fx.GraphModule:
    """The graph without these classes: smaller parameters, and the sizes in the graph written anew."""
    module = channels.program.graph_module()
    kept = kept_positions(channels, pruned_mask)
    put(module, channels, {name: cut(channels.parameter(name), dims) for name, dims in kept.items()})
    nodes = {node.name: node for node in module.graph.nodes}
    for original, call in channels.calls.items():
        rewrite = REWRITES.get(call.kind)
        if rewrite is not None:
            rewrite(call, Edit(nodes[original.name], channels.classes, pruned_mask))
    module.graph.lint()
    module.recompile()
    return module


def masked(channels: Channels, pruned_mask: np.ndarray) -> fx.GraphModule:
    """The graph as it was, with zeros in every parameter where `removed` takes something out."""
    module = channels.program.graph_module()
    kept = kept_positions(channels, pruned_mask)
    put(module, channels, {name: blanked(channels.parameter(name), dims) for name, dims in kept.items()})
    return module


def cut(tensor: Tensor, dims: Mapping[int, np.ndarray]) -> Tensor:
    """What is left of a parameter at these positions of these dimensions."""
    for axis, positions in dims.items():
        tensor = tensor.index_select(axis, torch.from_numpy(positions))
    return tensor.contiguous()


def blanked(tensor: Tensor, dims: Mapping[int, np.ndarray]) -> Tensor:
    """A copy with zeros everywhere else."""
    tensor = tensor.clone()
    for axis, positions in dims.items():
        gone = np.setdiff1d(np.arange(tensor.shape[axis]), positions)
        tensor.index_fill_(axis, torch.from_numpy(gone), 0)
    return tensor


def put(module: fx.GraphModule, channels: Channels, values: Mapping[str, Tensor]) -> None:
    """Give a module other parameters, each under all its names."""
    for name, tensor in values.items():
        old: Tensor = operator.attrgetter(name)(module)
        new = torch.nn.Parameter(tensor, old.requires_grad) if isinstance(old, torch.nn.Parameter) else tensor
        for alias in channels.aliases[name]:
            path, _, attribute = alias.rpartition(".")
            setattr(operator.attrgetter(path)(module) if path else module, attribute, new)
