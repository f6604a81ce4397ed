"""Taking channels out of the graph, and, to compare with, setting them to zero in it."""

import operator

import numpy as np
import torch
from torch import Tensor, fx

from worker.engine.channels.analysis import Channels
from worker.engine.channels.edit import Edit
from worker.engine.channels.rules import REWRITES

Kept = dict[str, dict[int, np.ndarray]]
"""By parameter and dimension: the positions that are left, ascending. What is whole is not in it."""


def kept_positions(channels: Channels, doomed: np.ndarray) -> Kept:
    """What is left of each parameter that loses something. `doomed` says for each class whether it goes."""
    kept: Kept = {}
    for name, dims in channels.parameters.items():
        for axis, labels in enumerate(dims):
            gone = doomed[labels]
            if gone.any():
                kept.setdefault(name, {})[axis] = np.flatnonzero(~gone)
    return kept


def removed(channels: Channels, doomed: np.ndarray) -> fx.GraphModule:
    """The graph without these classes: smaller parameters, and the sizes in the graph written anew."""
    module = channels.program.graph_module()
    for name, dims in kept_positions(channels, doomed).items():
        tensor = channels.parameter(name)
        for axis, positions in dims.items():
            tensor = tensor.index_select(axis, torch.from_numpy(positions))
        _replace(module, channels.aliases[name], tensor.contiguous())
    nodes = {node.name: node for node in module.graph.nodes}
    for original, call in channels.calls.items():
        rewrite = REWRITES.get(call.kind)
        if rewrite is not None:
            rewrite(call, Edit(nodes[original.name], channels.classes, doomed))
    module.graph.lint()
    module.recompile()
    return module


def masked(channels: Channels, doomed: np.ndarray) -> fx.GraphModule:
    """The graph as it was, with zeros in every parameter where `removed` takes something out."""
    module = channels.program.graph_module()
    for name, dims in kept_positions(channels, doomed).items():
        tensor = channels.parameter(name).clone()
        for axis, positions in dims.items():
            gone = np.setdiff1d(np.arange(tensor.shape[axis]), positions)
            tensor.index_fill_(axis, torch.from_numpy(gone), 0)
        _replace(module, channels.aliases[name], tensor)
    return module


def _replace(module: fx.GraphModule, names: tuple[str, ...], tensor: Tensor) -> None:
    """Give a tensor to a module under all its names."""
    old: Tensor = operator.attrgetter(names[0])(module)
    new = torch.nn.Parameter(tensor, requires_grad=old.requires_grad) if isinstance(old, torch.nn.Parameter) else tensor
    for name in names:
        path, _, attribute = name.rpartition(".")
        setattr(operator.attrgetter(path)(module) if path else module, attribute, new)
