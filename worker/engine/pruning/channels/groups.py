"""Channels that are alike: tied to the same dimensions of the same parameters, so that any of them may go."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from worker.engine.pruning.channels.channel_classes import FROZEN, Dims, Labels

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
    heads: bool
    """Whether each class is an attention head."""

    @property
    def name(self) -> str:
        """The first layer."""
        return self.layers[0]

    @property
    def channels(self) -> int:
        """Output channels of the first layer."""
        return len(self.classes) * self.width


def find_groups(
    parameters: Mapping[str, Dims], producers: Sequence[tuple[str, Labels]], heads: Sequence[Labels] = ()
) -> tuple[Group, ...]:
    """Sort the classes of output channels by where they occur.

    `producers` are layers and the classes they make; `heads` the classes that are attention heads.
    """
    if not producers:
        return ()
    count = 1 + max(int(labels.max(initial=0)) for labels in (*_all(parameters), *(labels for _, labels in producers)))
    places = [(name, axis) for name, dims in parameters.items() for axis in range(len(dims))]
    made = np.zeros(count, bool)
    for _, labels in producers:
        made[labels] = True
    made[FROZEN] = False
    classes = np.flatnonzero(made)
    _, first, kinds = np.unique(
        _fingerprints(parameters, places, count)[classes], return_index=True, return_inverse=True
    )
    group_of = np.full(count, len(first))  # the last column of the counts: classes of no group
    group_of[classes] = kinds
    occurs = np.array([_counts(parameters[name][axis], group_of, len(first)) for name, axis in places])
    layers = np.array([_counts(labels, group_of, len(first)) for _, labels in producers])
    are_heads = np.isin(classes, np.concatenate([[FROZEN], *(np.ravel(labels) for labels in heads)]))
    groups = [
        _group(
            classes[kinds == kind],
            parameters,
            places,
            occurs[:, kind],
            producers,
            layers[:, kind],
            heads=bool(are_heads[kinds == kind].any()),
        )
        for kind in range(len(first))
    ]
    order = (layers > 0).argmax(0)
    return tuple(groups[kind] for kind in np.lexsort((classes[first], order)))


def _all(parameters: Mapping[str, Dims]) -> Iterator[Labels]:
    return (labels for dims in parameters.values() for labels in dims)


def _counts(labels: Labels, group_of: np.ndarray, groups: int) -> np.ndarray:
    """How many of these positions belong to each group."""
    return np.bincount(group_of[labels], minlength=groups + 1)[:groups]


def _fingerprints(parameters: Mapping[str, Dims], places: Sequence[Place], count: int) -> np.ndarray:
    """By class: a sum of random numbers, one for each place it occurs in; equal only for the same places."""
    random = np.random.default_rng(0).integers(1, 2**62, len(places), dtype=np.uint64)
    prints = np.zeros(count, np.uint64)
    for number, (name, axis) in zip(random, places, strict=True):
        occurs = np.zeros(count, bool)
        occurs[parameters[name][axis]] = True
        prints[occurs] += number  # unsigned: it wraps around
    return prints


def _group(
    classes: Labels,
    parameters: Mapping[str, Dims],
    places: Sequence[Place],
    occurs: np.ndarray,
    producers: Sequence[tuple[str, Labels]],
    made: np.ndarray,
    *,
    heads: bool,
) -> Group:
    """The group of these classes: `occurs` counts their positions in each place, `made` those each layer makes."""
    makers = np.flatnonzero(made).tolist()
    touched = dict(
        zip((places[place] for place in np.flatnonzero(occurs).tolist()), occurs[occurs > 0].tolist(), strict=True)
    )
    return Group(
        layers=tuple(dict.fromkeys(producers[maker][0] for maker in makers)),
        classes=classes,
        width=max(1, int(made[makers[0]]) // len(classes)),
        places=tuple(touched),
        parameters=sum(_tied(parameters[name], name, touched) for name in dict.fromkeys(name for name, _ in touched)),
        heads=heads,
    )


def _tied(dims: Dims, name: str, touched: Mapping[Place, int]) -> int:
    """Elements of a parameter that at least one of their indices ties to the group."""
    sizes = [len(labels) for labels in dims]
    return math.prod(sizes) - math.prod(size - touched.get((name, axis), 0) for axis, size in enumerate(sizes))
