"""Channels that are alike: tied to the same dimensions of the same parameters, so that any of them may go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from worker.engine.channels.classes import Dims, Labels

Place = tuple[str, int]
"""A dimension of a parameter."""


@dataclass(frozen=True, eq=False)
class Group:
    """Classes of positions that may be removed, each alone."""

    layers: tuple[str, ...]
    """The layers whose output channels these are, in the order of the graph. A residual sum joins several."""
    classes: Labels
    """One for each thing that stays or goes: a channel, an attention head, a group of a grouped convolution."""
    width: int
    """Output channels of the first layer in one class."""
    places: tuple[Place, ...]
    """Every dimension of a parameter that these channels are part of."""
    parameters: int
    """Elements of all parameters that are tied to these channels."""

    @property
    def name(self) -> str:
        """The first layer."""
        return self.layers[0]

    @property
    def channels(self) -> int:
        """Output channels of the first layer."""
        return len(self.classes) * self.width


def find_groups(parameters: Mapping[str, Dims], producers: Sequence[tuple[str, Labels]]) -> tuple[Group, ...]:
    """Sort the classes of output channels by where they occur. `producers` are layers and the classes they make."""
    count = 1 + max((int(labels.max(initial=0)) for _, labels in producers), default=0)
    places = [(name, axis) for name, dims in parameters.items() for axis in range(len(dims))]
    prints = _fingerprints(parameters, places, count)
    produced = np.unique(np.concatenate([labels for _, labels in producers] or [np.zeros(0, np.int64)]))
    produced = produced[produced > 0]
    kinds, kind_of = np.unique(prints[produced], return_inverse=True)
    groups = [_group(produced[kind_of == kind], parameters, places, producers) for kind in range(len(kinds))]
    order = {layer: place for place, (layer, _) in reversed(list(enumerate(producers)))}
    return tuple(sorted(groups, key=lambda group: (order[group.name], group.classes[0])))


def _fingerprints(parameters: Mapping[str, Dims], places: Sequence[Place], count: int) -> np.ndarray:
    """By class: a sum of random numbers, one for each place it occurs in; equal only for the same places."""
    random = np.random.default_rng(0).integers(1, 2**62, len(places), dtype=np.uint64)
    prints = np.zeros(count, np.uint64)
    for number, (name, axis) in zip(random, places, strict=True):
        found = np.unique(parameters[name][axis])
        prints[found[found < count]] += number  # unsigned: it wraps around
    return prints


def _group(
    classes: Labels, parameters: Mapping[str, Dims], places: Sequence[Place], producers: Sequence[tuple[str, Labels]]
) -> Group:
    made = [(layer, int(np.isin(labels, classes).sum())) for layer, labels in producers]
    layers = [(layer, channels) for layer, channels in made if channels]
    touched = tuple((name, axis) for name, axis in places if (parameters[name][axis] == classes[0]).any())
    return Group(
        layers=tuple(dict.fromkeys(layer for layer, _ in layers)),
        classes=classes,
        width=max(1, layers[0][1] // len(classes)),
        places=touched,
        parameters=_tied(classes, parameters, touched),
    )


def _tied(classes: Labels, parameters: Mapping[str, Dims], places: Sequence[Place]) -> int:
    """Elements that at least one of their indices ties to these classes."""
    elements = 0
    for name in dict.fromkeys(name for name, _ in places):
        dims = parameters[name]
        free = 1
        for labels in dims:
            free *= len(labels) - int(np.isin(labels, classes).sum())
        elements += int(np.prod([len(labels) for labels in dims])) - free
    return elements
