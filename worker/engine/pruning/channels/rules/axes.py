"""Dimensions that change places, come and go, are cut and joined."""

from typing import Any

import numpy as np
import torch

from worker.engine.pruning.channels.call import Call, NoRule, Value
from worker.engine.pruning.channels.channel_classes import Dims, frozen
from worker.engine.pruning.channels.edit import Edit
from worker.engine.pruning.channels.rules.base import Rewrite, Rule, by_operator
from worker.engine.pruning.channels.rules.elementwise import broadcast

ATEN = torch.ops.aten
PICKED = "single positions are picked from them"
SPLITS = "split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk"


def reorder(call: Call) -> Value:
    """The operator itself says where each dimension goes, on a tensor whose sizes are the dimensions' numbers."""
    dims = call.labels("self")
    probe = torch.empty(tuple(range(1, len(dims) + 1)), device="meta")
    operator: Any = call.node.target
    return tuple(dims[size - 1] for size in operator(probe, *call.node.args[1:], **call.node.kwargs).shape)


def unsqueeze(call: Call) -> Value:
    """A dimension of size 1 more."""
    dims = call.labels("self")
    axis = call.integer("dim") % (len(dims) + 1)
    return (*dims[:axis], frozen(1), *dims[axis:])


def squeeze(call: Call) -> Value:
    """Dimensions of size 1 fewer: those that are named, or all."""
    dims = call.labels("self")
    named = call["dim"] if call.takes("dim") else range(len(dims))
    axes = {axis % len(dims) for axis in ([named] if isinstance(named, int) else named)}
    left = tuple(labels for axis, labels in enumerate(dims) if axis not in axes or len(labels) > 1)
    if len(left) != len(call.shape):
        raise NoRule("a varying size of 1")
    return left


def expand(call: Call) -> Value:
    """Sizes of 1 grow, and dimensions are put before the first.

    What grows to the size of another value's dimension goes with that: all its positions are alike.
    """
    dims, shape = call.labels("self"), call.shape
    new = len(shape) - len(dims)
    if call.takes("other"):
        return broadcast(call.classes, shape, [dims, call.labels("other")])
    kept = (labels if len(labels) == size else frozen(size) for labels, size in zip(dims, shape[new:], strict=True))
    return (*(frozen(size) for size in shape[:new]), *kept)


def expanded(call: Call, edit: Edit) -> None:
    """Write the new sizes."""
    dims = call.labels_of(call.node) or ()
    edit.set_sizes("size", dims)


def repeat(call: Call) -> Value:
    """A position goes in each copy of its dimension."""
    dims, shape = call.labels("self"), call.shape
    if any(not size for size in shape):
        raise NoRule("no copies")
    new = len(shape) - len(dims)
    copies = (
        labels if len(labels) == size else frozen(size) if len(labels) == 1 else np.tile(labels, size // len(labels))
        for labels, size in zip(dims, shape[new:], strict=True)
    )
    return (*(frozen(size) for size in shape[:new]), *copies)


def repeat_interleave(call: Call) -> Value:
    """A position goes in each copy of itself."""
    dims, times = list(call.labels("self")), call.integer("repeats")
    axis = call.integer("dim") % len(dims)
    dims[axis] = np.repeat(dims[axis], times) if len(dims[axis]) > 1 else frozen(call.shape[axis])
    return tuple(dims)


def roll(call: Call) -> Value:
    """What is rolled stays whole."""
    dims = call.labels("self")
    axes = call["dims"] or range(len(dims))
    call.freeze("they are rolled", *(dims[axis] for axis in axes))
    return dims


def select(call: Call) -> Value:
    """A dimension of which single positions are named stays whole."""
    dims = call.labels("self")
    axis = call.integer("dim") % len(dims)
    call.freeze(PICKED, dims[axis])
    if call.kind == "index_select":
        return (*dims[:axis], frozen(call.shape[axis]), *dims[axis + 1 :])
    left = (*dims[:axis], *dims[axis + 1 :])
    return call.result(*[left] * len(call.results))


def index(call: Call) -> Value:
    """One dimension is looked up by position and stays whole: a table of relative positions, say."""
    dims, indices = call.labels("self"), call["indices"]
    used = [axis for axis, positions in enumerate(indices) if positions is not None]
    places = call.labels_of(indices[used[0]]) if len(used) == 1 else None
    if places is None:
        raise NoRule("several indices")
    call.freeze(PICKED, dims[used[0]], *places)
    return (*dims[: used[0]], *(frozen(len(place)) for place in places), *dims[used[0] + 1 :])


def cut(call: Call) -> Value:
    """A range of one dimension. One with steps, or with bounds that vary, keeps it whole."""
    dims = call.labels("self")
    axis = call.integer("dim") % len(dims)
    bounds = _bounds(call, len(dims[axis]))
    if bounds is None:
        call.freeze("the range that is cut out varies or has steps", dims[axis])
        return (*dims[:axis], frozen(call.shape[axis]), *dims[axis + 1 :])
    return (*dims[:axis], dims[axis][slice(*bounds)], *dims[axis + 1 :])


def moved_bounds(call: Call, edit: Edit) -> None:
    """Count what is left before each bound."""
    labels = call.labels("self")[call.integer("dim") % len(call.labels("self"))]
    bounds = _bounds(call, len(labels))
    if bounds is None or not edit.shrinks(labels):
        return
    start, end = (int(edit.stay(labels)[:bound].sum()) for bound in bounds)
    edit.set("start", start)
    if call.kind == "narrow":
        edit.set("length", end - start)
    else:
        edit.set("end", end)


def _bounds(call: Call, size: int) -> tuple[int, int] | None:
    """Start and end as positions, if they are written in the graph and nothing between them is left out."""
    if call.kind == "narrow":
        start, length = call["start"], call["length"]
        return (start % size, start % size + length) if isinstance(start, int) and isinstance(length, int) else None
    start, end = call["start"] or 0, size if call["end"] is None else call["end"]
    if not isinstance(start, int) or not isinstance(end, int) or call["step"] != 1:
        return None
    return slice(start, end).indices(size)[:2]


def split(call: Call) -> Value:
    """Consecutive ranges of one dimension."""
    dims = call.labels("self")
    axis = call.integer("dim") % len(dims)
    ends = np.cumsum([shape[axis] for shape in call.results])
    return [(*dims[:axis], part, *dims[axis + 1 :]) for part in np.split(dims[axis], ends[:-1])]


def split_with_sizes(call: Call, edit: Edit) -> None:
    """Parts need no longer be of equal size."""
    axis = call.integer("dim") % len(call.labels("self"))
    if not edit.shrinks(call.labels("self")[axis]):
        return
    sizes = [edit.left(part[axis]) for part in call.known[call.node] or ()]
    edit.call(ATEN.split_with_sizes.default, (edit.node.args[0], sizes, axis))


def cat(call: Call) -> Value:
    """One after the other along a dimension; along the others they go together."""
    tensors = _listed(call)
    axis = call.integer("dim") % len(call.shape)
    for dims in tensors[1:]:
        for place, labels in enumerate(dims):
            if place != axis:
                call.classes.tie(tensors[0][place], labels)
    joined = np.concatenate([dims[axis] for dims in tensors])
    return (*tensors[0][:axis], joined, *tensors[0][axis + 1 :])


def stack(call: Call) -> Value:
    """Along a new dimension; in the others they go together."""
    tensors = _listed(call)
    for dims in tensors[1:]:
        for labels, other in zip(tensors[0], dims, strict=True):
            call.classes.tie(labels, other)
    axis = call.integer("dim") % len(call.shape)
    return (*tensors[0][:axis], frozen(len(tensors)), *tensors[0][axis:])


def _listed(call: Call) -> list[Dims]:
    tensors = call.all_labels(call["tensors"])
    if any(len(dims) != len(tensors[0]) for dims in tensors):
        raise NoRule("tensors of different ranks")  # torch lets an empty one join anything
    return tensors


RULES: dict[str, Rule] = by_operator(
    {
        "permute transpose t mT numpy_T movedim swapaxes swapdims": reorder,
        "unsqueeze": unsqueeze,
        "squeeze": squeeze,
        "expand expand_as broadcast_to": expand,
        "repeat tile": repeat,
        "repeat_interleave": repeat_interleave,
        "roll": roll,
        "select unbind index_select": select,
        "index": index,
        "slice narrow": cut,
        SPLITS: split,
        "cat concat concatenate": cat,
        "stack": stack,
    }
)

REWRITES: dict[str, Rewrite] = by_operator(
    {
        "expand broadcast_to": expanded,
        "slice narrow": moved_bounds,
        SPLITS: split_with_sizes,
    }
)
