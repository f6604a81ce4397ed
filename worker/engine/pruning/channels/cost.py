"""What a network costs once channels are gone, counted without building it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from worker.engine.pruning.channels.analysis import Channels
from worker.engine.pruning.channels.call import Value
from worker.engine.pruning.channels.channel_classes import count_left
from worker.engine.torch_program.macs import count_macs
from worker.engine.torch_program.shapes import rows_of


@dataclass(frozen=True)
class Cost:
    """Elements of all parameters, and multiply-accumulates for one row."""

    parameters: int
    macs: int


def cost_of(channels: Channels, pruned_mask: np.ndarray | None = None) -> Cost:
    """Of the network as it is, or without the classes that `pruned_mask` marks."""
    if pruned_mask is None:
        pruned_mask = np.zeros(len(channels.classes), bool)
    named = dict(channels.module.named_parameters())
    parameters = sum(
        math.prod(_left(channels.parameters[name], pruned_mask)) for name in channels.parameters if name in named
    )

    def shape_of(node: fx.Node) -> Any:
        return _left(channels.labels.get(node), pruned_mask)

    return Cost(parameters, count_macs(channels.module.graph, shape_of, rows_of(channels.program)))


def _left(value: Value, pruned_mask: np.ndarray) -> Any:
    if isinstance(value, list):
        return [_left(element, pruned_mask) for element in value]
    return None if value is None else tuple(count_left(classes, pruned_mask) for classes in value)
