"""Reshapes: dimensions that are split and merged, `[rows, heads x size]` to `[rows, heads, size]` and back."""

import math
from collections.abc import Sequence

import numpy as np

from worker.engine.pruning.channels.call import Call, NoRule, Value
from worker.engine.pruning.channels.channel_classes import Dims, Labels, frozen
from worker.engine.pruning.channels.edit import Edit
from worker.engine.pruning.channels.rules.base import Rewrite, Rule, by_operator
from worker.engine.torch_program.shapes import Shape

STACKED = 3
"""A split into this many parts or fewer stacks projections (q, k, v; a value and its gate), not heads or channels."""

MIXED = "it cuts them into parts of another size"

Factor = tuple[int, int, int]
"""A size, the dimension it is part of before, and the one after."""


def reshape(call: Call) -> Value:
    """Every dimension is split into factors that both shapes share, then these are merged.

    What has no common factors stays whole. What takes its shape from another value goes with that.
    """
    dims, shape = call.labels("self"), call.shape
    if not isinstance(call.shapes[call.node], tuple) or call.takes("dtype"):
        raise NoRule("another type of the same bytes")
    if common_factors([len(labels) for labels in dims], shape) is None:
        call.freeze(MIXED, *dims, *(call.labels("other") if call.takes("other") else ()))
        return call.untouchable()
    regrouped = _regroup(call, dims, shape)
    if call.takes("other"):
        for labels, others in zip(regrouped, call.labels("other"), strict=True):
            call.classes.tie(labels, others)
    return regrouped


def resize(call: Call, edit: Edit) -> None:
    """Write the new sizes."""
    name = next(name for name in ("size", "shape", "sizes") if call.takes(name))
    dims = call.labels_of(call.node) or ()
    if name == "sizes":
        axis = call.integer("dim") % len(call.labels("self"))
        dims = dims[axis : axis + len(call[name])]
    edit.set_sizes(name, dims)


def _regroup(call: Call, dims: Dims, shape: Shape) -> Dims:
    """The labels of a tensor with these after it was given another shape that shares factors with its own."""
    factors = common_factors([len(labels) for labels in dims], shape) or []
    parts: list[Labels] = []
    for axis, labels in enumerate(dims):
        parts += _split(call, labels, [size for size, before, _ in factors if before == axis])
    merged = []
    for axis, size in enumerate(shape):
        places = [place for place, factor in enumerate(factors) if factor[2] == axis]
        merged.append(_merge(call, [parts[place] for place in places], size))
    return tuple(merged)


def common_factors(before: Sequence[int], after: Sequence[int]) -> list[Factor] | None:
    """The coarsest factors that make up the sizes of both shapes, in order, without ones; None if there are none."""
    if math.prod(before) != math.prod(after) or not math.prod(before):
        return None
    ours, theirs = ([[size, axis] for axis, size in enumerate(sizes) if size > 1] for sizes in (before, after))
    factors: list[Factor] = []
    while ours and theirs:
        size = min(ours[0][0], theirs[0][0])
        if ours[0][0] % size or theirs[0][0] % size:
            return None
        factors.append((size, ours[0][1], theirs[0][1]))
        for side in (ours, theirs):
            side[0][0] //= size
            if side[0][0] == 1:
                del side[0]
    return factors


def _split(call: Call, labels: Labels, sizes: list[int]) -> list[Labels]:
    """Labels of the parts of a dimension. Only one part can be removed from: the positions of the others are tied."""
    classes = call.classes
    if len(sizes) < 2:
        return [labels] if sizes else []
    parts = [frozen(size) for size in sizes]
    if classes.removable(labels):
        axis, *others = _prunable_axes(classes.roots(labels).reshape(sizes))
        if others and call.node in call.splits.second_choice:
            axis = others[0]
        members = np.moveaxis(labels.reshape(sizes), axis, 0).reshape(sizes[axis], -1)
        classes.union(members, members[:, :1])
        parts[axis] = members[:, 0]
        if others:
            call.splits.chosen.append((call.node, tuple(sizes), parts[axis]))
    return parts


def _prunable_axes(roots: np.ndarray) -> list[int]:
    """The part whose positions are tied as they should be already; else all, mere stacks last."""
    for axis in range(roots.ndim):
        members = np.moveaxis(roots, axis, 0).reshape(roots.shape[axis], -1)
        if (members == members[:, :1]).all():
            return [axis]
    axes = range(roots.ndim)
    return [
        *(axis for axis in axes if roots.shape[axis] > STACKED),
        *(axis for axis in reversed(axes) if roots.shape[axis] <= STACKED),
    ]


def _merge(call: Call, parts: list[Labels], size: int) -> Labels:
    """Labels of a dimension made of these. Of two parts that could be removed from, the first remains so."""
    removable = [place for place, labels in enumerate(parts) if call.classes.removable(labels)]
    if not removable:
        return frozen(size)
    for place in removable[1:]:
        call.freeze("it merges them with others that may go", parts[place])
    first = removable[0]
    shape = [len(labels) for labels in parts]
    column = parts[first].reshape([-1 if place == first else 1 for place in range(len(parts))])
    return np.broadcast_to(column, shape).reshape(size)


RULES: dict[str, Rule] = by_operator(
    {
        "view reshape _unsafe_view flatten unflatten _reshape_alias view_as reshape_as": reshape,
    }
)

REWRITES: dict[str, Rewrite] = by_operator(
    {
        "view reshape _unsafe_view unflatten": resize,
    }
)
