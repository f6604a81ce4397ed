"""Which classes go: the least important of each group, as many as the step asks for and the blocks allow."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from app.spec.prune import PruneChannels
from worker.engine.pruning.channels.analysis import Channels
from worker.engine.pruning.channels.errors import NothingToPrune, TargetUnreachable, UnknownLayer
from worker.engine.pruning.channels.groups import Group
from worker.engine.pruning.channels.importance import Scores
from worker.engine.pruning.channels.reasons import OUTPUT, sentences

MOST = 0.95
"""The largest share taken out of any group where the ratio is searched for or decided by rank."""
BISECTIONS = 20


@dataclass(frozen=True)
class Candidate:
    """A group the step may take from."""

    group: Group
    scores: np.ndarray
    order: np.ndarray
    """Its classes' places, the least important first."""


def candidates(channels: Channels, scores: Scores, step: PruneChannels) -> list[Candidate]:
    """The groups that the step's patterns leave. Raises `UnknownLayer`, `NothingToPrune`."""
    layers = [layer for group in channels.groups for layer in group.layers]
    for pattern in (*step.include, *step.exclude, *step.ratios):
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            raise UnknownLayer(f"'{pattern}' matches none of the {len(layers)} layers whose channels can be removed.")
    chosen = [
        Candidate(group, importance, np.argsort(importance, kind="stable"))
        for group, importance in zip(channels.groups, scores, strict=True)
        if _matches(group, step.include or ("*",)) and not _matches(group, step.exclude)
    ]
    if not chosen:
        raise NothingToPrune(_why_nothing(channels))
    return chosen


def choose(channels: Channels, groups: Sequence[Candidate], step: PruneChannels) -> np.ndarray:
    """Whether each class goes, bool `[labels]`, by the step's own ratios. Raises `NothingToPrune`."""
    pruned_mask = _pruned_mask(channels, groups, _taken(groups, step, step.share))
    if not pruned_mask.any():
        widths = [candidate.group.channels for candidate in groups]
        raise NothingToPrune(
            f"The layers have {min(widths)} to {max(widths)} channels: blocks of {step.round_to} leave none to remove."
        )
    return pruned_mask


def search(
    channels: Channels,
    groups: Sequence[Candidate],
    step: PruneChannels,
    share_left: Callable[[np.ndarray], float],
    target: float,
) -> np.ndarray:
    """The fewest channels to remove so that `share_left` of the result is at most `target`, by bisection of the ratio.

    Raises `TargetUnreachable`.
    """

    def at(ratio: float) -> np.ndarray:
        return _pruned_mask(channels, groups, _taken(groups, step, ratio))

    low, high = 0.0, MOST
    least = share_left(at(high))
    if least > target:
        raise TargetUnreachable(
            f"With {MOST:.0%} of the channels removed {100 * least:.3g}% are left; the target is {100 * target:.3g}%."
        )
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if share_left(at(middle)) <= target else (middle, high)
    return at(high)


def _taken(groups: Sequence[Candidate], step: PruneChannels, ratio: float) -> list[int]:
    """How many classes of each group go."""
    if step.scope == "global":
        wanted = _ranked_together(groups, ratio)
    else:
        wanted = [_ratio(candidate.group, step.ratios, ratio) * len(candidate.group.classes) for candidate in groups]
    return [_in_blocks(candidate.group, count, step) for candidate, count in zip(groups, wanted, strict=True)]


def _ranked_together(groups: Sequence[Candidate], ratio: float) -> list[float]:
    """All channels in one ranking: layers that matter less give more of theirs."""
    # Rank the classes of all groups; each stands for as many channels as its group is wide.
    scores = np.concatenate([candidate.scores for candidate in groups])
    widths = np.concatenate([np.full(len(candidate.scores), candidate.group.width) for candidate in groups])
    order = np.argsort(scores, kind="stable")
    # Take the least important ones until their channels are the share asked for.
    gone = np.zeros(len(scores), bool)
    gone[order[np.cumsum(widths[order]) <= ratio * widths.sum()]] = True
    # Count what that takes of each group, none of which vanishes.
    parts = np.split(gone, np.cumsum([len(candidate.scores) for candidate in groups])[:-1])
    return [min(float(part.sum()), MOST * len(part)) for part in parts]


def _ratio(group: Group, ratios: Mapping[str, float], otherwise: float) -> float:
    """The first pattern that matches one of the group's layers decides."""
    return next((ratio for pattern, ratio in ratios.items() if _matches(group, (pattern,))), otherwise)


def _in_blocks(group: Group, wanted: float, step: PruneChannels) -> int:
    """The number of classes to take, so that what is left is the multiple of the block nearest to what was asked for.

    A group that would be left with less than one block, or is not made smaller by rounding, stays whole. Heads are
    counted, not rounded: their size is no kernel's block.
    """
    count = len(group.classes)
    block = 1 if group.heads and group.width > 1 else step.round_to // math.gcd(step.round_to, group.width)
    least = max(1, -(-step.min_channels // group.width))
    left = max(block, math.floor((count - wanted) / block + 0.5) * block)
    left = max(left, -(-least // block) * block)
    return max(0, count - left)


def _pruned_mask(channels: Channels, groups: Sequence[Candidate], taken: Sequence[int]) -> np.ndarray:
    pruned_mask = np.zeros(len(channels.classes), bool)
    for candidate, count in zip(groups, taken, strict=True):
        pruned_mask[candidate.group.classes[candidate.order[:count]]] = True
    return pruned_mask


def _matches(group: Group, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(layer, pattern) for layer in group.layers for pattern in patterns)


def _why_nothing(channels: Channels) -> str:
    if channels.groups:
        return f"`include` and `exclude` leave none of the {len(channels.groups)} groups of channels."
    if any(reason.why != OUTPUT for reason in channels.reasons):
        return f"Every channel stays whole. {' '.join(sentences(channels.reasons))}"
    return "Every channel is part of an output, or added to an input: no layer comes before another."
