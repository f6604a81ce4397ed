"""Elements by their place: gathered, scattered, sorted, looked up."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter
from worker.engine.onnx_import.operators.elementwise import in_type
from worker.engine.onnx_import.values import tensor_of

SCATTER = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def counted_from_start(places: Tensor, size: Any) -> Tensor:
    """Negative places count from the end."""
    places = in_type(places, torch.int64)
    return torch.where(places < 0, places + size, places)


def gather(call: Call) -> Any:
    """Slices by their number; rows of a constant table are an embedding."""
    table, axis = call.tensor(0), call.get("axis", 0)
    axis = axis % table.ndim
    if call.is_known(1):
        places = call.numbers(1)
        if places.size == 1 and places.dtype != object:
            place = int(places.reshape(-1)[0])
            picked = table.select(axis, place)
            for _ in range(places.ndim):
                picked = picked.unsqueeze(axis)
            return picked
        if places.dtype != object:
            size = table.shape[axis]
            chosen = tensor_of(np.asarray(places, np.int64))
            chosen = counted_from_start(chosen, size) if (places < 0).any() else chosen
            return _picked(table, axis, chosen)
    places_given = call.tensor(1)
    if axis == 0 and table.ndim == 2 and isinstance(table, torch.nn.Parameter):
        return functional.embedding(in_type(places_given, torch.int64), table)
    return _picked(table, axis, counted_from_start(places_given, table.shape[axis]))


def _picked(table: Tensor, axis: int, places: Tensor) -> Tensor:
    picked = table.index_select(axis, places.reshape(-1))
    if places.ndim == 1:
        return picked
    return picked.reshape([*table.shape[:axis], *places.shape, *table.shape[axis + 1 :]])


def gather_elements(call: Call) -> Tensor:
    """One element for each index."""
    value, axis = call.tensor(0), call.get("axis", 0)
    return torch.gather(value, axis, counted_from_start(call.tensor(1), value.shape[axis]))


def gather_nd(call: Call) -> Tensor:
    """The last axis of the indices says where."""
    value, places, batched = call.tensor(0), call.tensor(1), call.get("batch_dims", 0)
    index: list[Tensor] = []
    for axis in range(batched):
        view = [1] * (places.ndim - 1)
        view[axis] = -1
        index.append(torch.arange(value.shape[axis]).reshape(view))
    for number, axis in enumerate(range(batched, batched + int(places.shape[-1]))):
        index.append(counted_from_start(places[..., number], value.shape[axis]))
    return value[tuple(index)]


def scatter_elements(call: Call) -> Tensor:
    """Some elements replaced, or joined with what is there."""
    value, places, updates = call.tensor(0), call.tensor(1), call.tensor(2)
    axis, how = call.get("axis", 0), call.get("reduction", "none")
    places = counted_from_start(places, value.shape[axis])
    if how == "none":
        return value.scatter(axis, places, updates)
    return value.scatter_reduce(axis, places, updates, SCATTER[how], include_self=True)


def scatter_nd(call: Call) -> Tensor:
    """Some slices replaced, or joined with what is there."""
    value, places, updates = call.tensor(0), call.tensor(1), call.tensor(2)
    how, depth = call.get("reduction", "none"), int(places.shape[-1])
    index = tuple(counted_from_start(places[..., axis], value.shape[axis]) for axis in range(depth))
    if how in ("none", "add"):
        return value.index_put(index, updates, accumulate=how == "add")
    flat = torch.zeros((), dtype=torch.int64)
    for axis, place in enumerate(index):
        flat = flat * value.shape[axis] + place
    slices = math.prod(value.shape[depth:])
    rows = value.reshape(-1, slices)
    given = updates.reshape(-1, slices)
    spread = flat.reshape(-1, 1).expand(given.shape)
    return rows.scatter_reduce(0, spread, given, SCATTER[how], include_self=True).reshape(value.shape)


def tensor_scatter(call: Call) -> Tensor:
    """A cache with new entries, from a place that each row names; a circular one begins anew at its end."""
    cache, update, axis = call.tensor(0), call.tensor(1), call.get("axis", -2)
    axis = axis % cache.ndim
    rows, size, length = cache.shape[0], cache.shape[axis], update.shape[axis]
    start = call.tensor(2) if call.has(2) else torch.zeros(rows, dtype=torch.int64)
    places = start.to(torch.int64)[:, None] + torch.arange(length)[None]
    if call.get("mode", "linear") == "circular":
        places = places % size
    view = [rows if place == 0 else length if place == axis else 1 for place in range(cache.ndim)]
    return cache.scatter(axis, places.reshape(view).expand(update.shape), update)


def top_k(call: Call) -> tuple[Tensor, Tensor]:
    """The largest or smallest of an axis, and where they stand; the first of equals comes first."""
    value, axis = call.tensor(0), call.get("axis", -1)
    count = call.number(1) if call.has(1) else call["k"]
    largest = bool(call.get("largest", 1))
    wide = value.to(torch.int64) if value.dtype in (torch.uint32, torch.uint16, torch.uint64) else value
    ordered, places = torch.sort(wide, dim=axis, descending=largest, stable=True)
    return ordered.narrow(axis, 0, count).to(value.dtype), places.narrow(axis, 0, count)


def one_hot(call: Call) -> Tensor:
    """Two values: one at the place of each index, the other elsewhere. Places beyond the depth have none."""
    places, depth, values = call.tensor(0), call.number(1), call.tensor(2)
    axis = call.get("axis", -1)
    depth = int(depth) if isinstance(depth, float) else depth
    wrapped = counted_from_start(places, depth)
    rank = places.ndim + 1
    axis = axis % rank
    view = [1] * rank
    view[axis] = -1
    hot = wrapped.unsqueeze(axis) == torch.arange(depth).reshape(view)
    return torch.where(hot, values[1], values[0])


def compress(call: Call) -> Tensor:
    """The slices for which a condition is true."""
    value, condition, axis = call.tensor(0), call.numbers(1), call.get("axis")
    places = tensor_of(np.flatnonzero(condition))
    return value.reshape(-1).index_select(0, places) if axis is None else value.index_select(axis, places)


def non_zero(call: Call) -> Tensor:
    """Where a tensor is not zero, one row an axis."""
    return torch.nonzero(call.tensor(0)).t()


def reverse_sequence(call: Call) -> Tensor:
    """The first entries of each row turned around, as many as it says."""
    value, lengths = call.tensor(0), call.tensor(1).to(torch.int64)
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)
    steps = torch.arange(value.shape[time])
    view = [1] * value.ndim
    view[time] = -1
    across = [1] * value.ndim
    across[batch] = -1
    step, length = steps.reshape(view), lengths.reshape(across)
    places = torch.where(step < length, length - 1 - step, step)
    return torch.gather(value, time, places.expand(value.shape))


def unique(call: Call) -> tuple[Tensor, ...]:
    """Different elements, or slices; how many there are depends on the values."""
    value, axis = call.tensor(0), call.get("axis")
    kept, inverse, counts = torch.unique(value, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    inverse = inverse.reshape(-1)
    count = counts.shape[0]
    order = torch.arange(inverse.shape[0])
    first = torch.full([count], inverse.shape[0], dtype=torch.int64).scatter_reduce(0, inverse, order, "amin")
    if call.get("sorted", 1):
        return kept, first, inverse, counts
    as_they_come = torch.argsort(first)
    kept = kept.index_select(0 if axis is None else axis, as_they_come)
    return kept, first[as_they_come], torch.argsort(as_they_come)[inverse], counts[as_they_come]


def non_max_suppression(call: Call) -> Tensor:
    """Boxes that overlap no better one, per row and class: [row, class, box]. Unrolled over the boxes."""
    boxes, scores = call.tensor(0), call.tensor(1)
    most, overlap, least = int(call.number(2, 0)), call.number(3, 0.0), call.number(4)
    rows, classes, count = scores.shape
    if most == 0:
        return torch.zeros((0, 3), dtype=torch.int64)
    if not all(isinstance(number, int) for number in (rows, classes, count)):
        raise call.refusal("of a varying number of rows, classes or boxes")
    corners = _corners(boxes, centered=bool(call.get("center_point_box", 0)))
    chosen = []
    for row in range(rows):
        for kind in range(classes):
            kept, order = _suppressed(corners[row], scores[row, kind], most, overlap, least)
            places = order[torch.nonzero(kept).reshape(-1)]
            fixed = torch.stack([torch.full_like(places, row), torch.full_like(places, kind), places], 1)
            chosen.append(fixed)
    return torch.cat(chosen)


def _corners(boxes: Tensor, *, centered: bool) -> Tensor:
    """Boxes as the smaller and the larger corner."""
    if centered:
        middle, extent = boxes[..., :2], boxes[..., 2:] / 2
        return torch.cat([middle - extent, middle + extent], -1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _suppressed(boxes: Tensor, scores: Tensor, most: int, overlap: float, least: float | None) -> tuple[Tensor, Tensor]:
    """Whether each box is kept, from the best to the worst, and that order."""
    order = torch.argsort(scores, descending=True, stable=True)
    boxes, scores = boxes[order], scores[order]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    near = common / (area[:, None] + area[None] - common) > overlap
    alive = torch.ones_like(scores, dtype=torch.bool) if least is None else scores > least
    for place in range(int(boxes.shape[0])):
        kept = alive[place] & (alive[:place].sum() < most)
        alive = torch.cat([alive[:place], kept.reshape(1), alive[place + 1 :] & ~(kept & near[place, place + 1 :])])
    return alive, order


def array_feature_extractor(call: Call) -> Tensor:
    """Columns by their number."""
    return call.tensor(0).index_select(-1, call.tensor(1).to(torch.int64).reshape(-1))


CONVERTERS: dict[str, Converter] = {
    "Compress": compress,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "NonMaxSuppression": non_max_suppression,
    "NonZero": non_zero,
    "OneHot": one_hot,
    "ReverseSequence": reverse_sequence,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "TopK": top_k,
    "Unique": unique,
    "ai.onnx.ml.ArrayFeatureExtractor": array_feature_extractor,
}
"""By operator."""
