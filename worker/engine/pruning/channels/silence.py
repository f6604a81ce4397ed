"""Channels set to zero where a layer reads them, whatever was computed of their zeros on the way.

A channel whose weights are zero may be divided by a number of its own, which is zero as well, or a logarithm may be
taken of it: what comes of that is not finite, and times a weight of zero it is not zero. In the masked program a layer
reads zero there, as the words "set to zero" have it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from worker.engine.pruning.channels.analysis import Channels
from worker.engine.pruning.channels.call import Call
from worker.engine.torch_program.operators import parameters_of

Silenced = Mapping[str, list[tuple[str, int, Tensor]]]
"""By name of a node: an argument, a dimension of it, and its positions that are set to zero, int64."""

CONTRACTED: Mapping[str, Callable[[Call], tuple[tuple[str, int], ...]]] = {
    "linear": lambda _: (("input", -1),),
    "conv": lambda call: (("input", 1 - len(call.labels("weight"))),),
    "matmul": lambda _: (("self", -1), ("other", -2)),
    "mm bmm": lambda _: (("self", -1), ("mat2", -2)),
    "addmm": lambda _: (("mat1", -1), ("mat2", -2)),
    "baddbmm": lambda _: (("batch1", -1), ("batch2", -2)),
    "lstm gru rnn_tanh rnn_relu": lambda _: (("input", -1),),
}
"""What each layer sums over, with its weights or with another value."""


def silenced(channels: Channels, pruned_mask: np.ndarray) -> Silenced:
    """What every layer of the graph reads of the classes that go."""
    silence: dict[str, list[tuple[str, int, Tensor]]] = {}
    for node, call in channels.calls.items():
        for argument, axis in _contracted(call):
            gone = pruned_mask[channels.classes.roots(call.labels(argument)[axis])]
            if gone.any():
                silence.setdefault(node.name, []).append((argument, axis, torch.from_numpy(np.flatnonzero(gone))))
    return silence


def without(node: fx.Node, silence: Silenced, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The arguments that a node is about to be called with, zeros in their places."""
    if node.name not in silence:
        return args, kwargs
    places = [parameter.name for parameter in parameters_of(node)]
    given, named = list(args), dict(kwargs)
    for argument, axis, positions in silence[node.name]:
        place = places.index(argument)
        if place < len(given):
            given[place] = given[place].index_fill(axis, positions, 0)
        else:
            named[argument] = named[argument].index_fill(axis, positions, 0)
    return tuple(given), named


def _contracted(call: Call) -> tuple[tuple[str, int], ...]:
    kind = "conv" if call.kind.startswith("conv") else call.kind
    for kinds, places in CONTRACTED.items():
        if kind in kinds.split():
            return places(call)
    return ()
