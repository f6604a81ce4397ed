"""How much each class of channels matters: by the size of its weights, by the loss, or not at all."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from worker.engine.pruning.channels.analysis import Channels
from worker.engine.pruning.channels.groups import Group

Scores = list[np.ndarray]
"""By group: one number for each of its classes, higher where it matters more; comparable between groups."""
TINY = 1e-12


def by_norm(channels: Channels, power: int) -> Scores:
    """The p-norm (to the power p) of all slices of weights that a class is part of."""
    return by_elements(channels, lambda name: channels.parameter(name).abs().double().pow(power))


def by_elements(channels: Channels, value_of: Callable[[str], Tensor | None]) -> Scores:
    """Sum the values of a class's elements, weight by weight, each in units of its mean over the group's classes.

    Biases and statistics are left out: they say where a channel rests, not what it carries. The unit makes a
    convolution with few inputs count as much as one with many (DepGraph's group norm, arXiv:2301.12900).
    `value_of` returns non-negative values of a parameter, or None to leave it out.
    """
    sums: dict[tuple[str, int], np.ndarray] = {}
    for name, dims in channels.parameters.items():
        places = {place for group in channels.groups for place in group.places if place[0] == name}
        values = value_of(name) if places and len(dims) > 1 else None
        for _, axis in places if values is not None else ():
            others = [other for other in range(len(dims)) if other != axis]
            sums[name, axis] = values.sum(others).numpy()  # type: ignore[union-attr]
    return [_score(group, channels, sums) for group in channels.groups]


def by_scale(channels: Channels) -> Scores:
    """|gamma| of the batch norms a class passes through (network slimming, Liu et al. 2017); the norm without one."""
    fallback = by_norm(channels, 2)
    sums = {(name, 0): channels.parameter(name).abs().double().numpy() for name in channels.scales}
    return [
        _score(group, channels, sums) if scaled(group, channels) else norms
        for group, norms in zip(channels.groups, fallback, strict=True)
    ]


def scaled(group: Group, channels: Channels) -> bool:
    """Whether a batch norm scales these channels."""
    return any(name in channels.scales for name, _ in group.places)


def at_random(channels: Channels, seed: int) -> Scores:
    """No information: what a criterion must beat."""
    random = np.random.default_rng(seed)
    return [random.random(len(group.classes)) for group in channels.groups]


def norms(channels: Channels, groups: Sequence[Group]) -> list[np.ndarray]:
    """The L2 norm of each class's slice of its first layer's weight, for the eye."""
    return [_norms(group, channels) for group in groups]


def _norms(group: Group, channels: Channels) -> np.ndarray:
    name, axis = next((place for place in group.places if len(channels.parameters[place[0]]) > 1), group.places[0])
    weight = channels.parameter(name).double().square()
    squares = weight.sum([other for other in range(weight.ndim) if other != axis]).numpy()
    return np.sqrt(_by_class(group, channels.parameters[name][axis], squares))


def _score(group: Group, channels: Channels, sums: Mapping[tuple[str, int], np.ndarray]) -> np.ndarray:
    score = np.zeros(len(group.classes))
    for place in group.places:
        if place in sums:
            values = _by_class(group, channels.parameters[place[0]][place[1]], sums[place])
            score += values / max(values.mean(), TINY)
    return score


def _by_class(group: Group, classes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum values by position into values by class of the group."""
    place = np.searchsorted(group.classes, classes).clip(max=len(group.classes) - 1)
    ours = group.classes[place] == classes
    return np.bincount(place[ours], values[ours], minlength=len(group.classes))
