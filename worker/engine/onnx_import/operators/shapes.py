"""Shapes: axes that change places, come and go, are split, joined, padded and repeated."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter, Size, is_symbolic_number
from worker.engine.onnx_import.values import numbers, tensor_of

END = (1 << 31) - 1
"""Exporters write a number from here on for "to the end"."""


def shape(call: Call) -> np.ndarray:
    """The sizes, some of which may vary."""
    return numbers(list(call.tensor(0).shape)[call.get("start", 0) : call.get("end")])


def size(call: Call) -> np.ndarray:
    """Number of elements, int64 of shape `[]`."""
    return numbers([math.prod(call.tensor(0).shape)]).reshape(())


def reshape(call: Call) -> Tensor:
    """0 keeps a size, -1 is what is left."""
    value, wanted = call.tensor(0), call.listed("shape", 1) or []
    if not call.get("allowzero"):
        wanted = [value.shape[axis] if _is(size, 0) else size for axis, size in enumerate(wanted)]
    return value.reshape(wanted)


def _is(number: Size, wanted: int) -> bool:
    return not is_symbolic_number(number) and number == wanted


def flatten(call: Call) -> Tensor:
    """To a matrix; the axes from `axis` on become its second."""
    value, axis = call.tensor(0), call.get("axis", 1)
    axis = axis + value.ndim if axis < 0 else axis
    if axis == 1 and value.ndim > 1:
        return value.flatten(1)
    return value.reshape(math.prod(value.shape[:axis]), math.prod(value.shape[axis:]))


def transpose(call: Call) -> Tensor:
    """Reversed, unless `perm` says how."""
    value = call.tensor(0)
    return value.permute(call.get("perm") or list(reversed(range(value.ndim))))


def squeeze(call: Call) -> Tensor:
    """Axes of size 1 fewer: those that are named, or all."""
    value, axes = call.tensor(0), call.listed("axes", 1)
    if axes is None:
        axes = [axis for axis, size in enumerate(value.shape) if _is(size, 1)]
    return value.squeeze([int(axis) for axis in axes])


def unsqueeze(call: Call) -> Tensor:
    """Axes of size 1 more, numbered as in the result."""
    value, axes = call.tensor(0), call.listed("axes", 1) or []
    rank = value.ndim + len(axes)
    for axis in sorted(int(axis) % rank for axis in axes):
        value = value.unsqueeze(axis)
    return value


def concat(call: Call) -> Tensor:
    """One after the other."""
    tensors = call.tensors()
    return torch.cat(tensors, call.get("axis", 1)) if len(tensors) > 1 else tensors[0]


def split(call: Call) -> tuple[Tensor, ...]:
    """Parts of the sizes that are given, or as equal as can be."""
    value, axis, sizes = call.tensor(0), call.get("axis", 0), call.listed("split", 1)
    if sizes is None:
        count = call.get("num_outputs") or len(call.node.outputs)
        each = -(-value.shape[axis] // count)
        return torch.split(value, each, axis)
    return torch.split(value, sizes, axis)


def slice_(call: Call) -> Tensor:
    """Ranges of some axes; a negative step walks backwards."""
    value = call.tensor(0)
    starts, ends = call.listed("starts", 1) or [], call.listed("ends", 2) or []
    axes, steps = call.listed("axes", 3), call.sizes(4) if call.has(4) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps, strict=True):
        value = _cut(value, int(axis) % value.ndim, start, end, int(step))
    return value


def _cut(value: Tensor, axis: int, start: Size, end: Size, step: int) -> Tensor:
    if step < 0:
        size = value.shape[axis]
        places = range(size)[slice(int(start), None if end < -size else int(end), step)]
        return value.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    end = None if not is_symbolic_number(end) and end >= END else end
    return value[(*[slice(None)] * axis, slice(None if _is(start, 0) else start, end, None if step == 1 else step))]


def expand(call: Call) -> Tensor:
    """Sizes of 1 grow, in both directions."""
    value, wanted = call.tensor(0), call.sizes(1)
    rank = max(value.ndim, len(wanted))
    wanted = [1] * (rank - len(wanted)) + wanted
    own: list[Size] = [1] * (rank - value.ndim) + list(value.shape)
    return value.expand([have if _is(want, 1) else want for have, want in zip(own, wanted, strict=True)])


def tile(call: Call) -> Tensor:
    """Repeated along each axis."""
    return call.tensor(0).repeat(call.sizes(1))


def identity(call: Call) -> Any:
    return call.value(0)


def pad(call: Call) -> Tensor:
    """Constant, reflected, repeated at the edge, or wrapped around; a negative amount cuts."""
    value, amounts, mode = call.tensor(0), call.listed("pads", 1), call.get("mode", "constant")
    amounts = list(call.get("paddings") or []) if amounts is None else amounts
    axes = call.sizes(3) if call.has(3) else list(range(value.ndim))
    before: list[Size] = [0] * value.ndim
    after: list[Size] = [0] * value.ndim
    for place, axis in enumerate(axes):
        before[axis], after[axis] = amounts[place], amounts[place + len(axes)]
    if mode == "constant" and call.has(2) and not call.is_known(2):
        inside = _padded(torch.ones_like(value, dtype=torch.bool), before, after, 0)
        return torch.where(inside, _padded(value, before, after, 0), call.tensor(2).reshape(()))
    if mode == "constant":
        return _padded(value, before, after, call.number(2, call.get("value", 0.0)))
    for axis in range(value.ndim):
        if not (_is(before[axis], 0) and _is(after[axis], 0)):
            value = value.index_select(axis, _places(mode, value.shape[axis], before[axis], after[axis]))
    return value


def _padded(value: Tensor, before: list[Size], after: list[Size], fill: Any) -> Tensor:
    pairs = list(zip(before, after, strict=True))
    while len(pairs) > 1 and _is(pairs[0][0], 0) and _is(pairs[0][1], 0):
        del pairs[0]  # the first axes, that are not padded, need not be named
    amounts = [amount for pair in reversed(pairs) for amount in pair]
    if value.dtype == torch.bool:
        return functional.pad(value.to(torch.uint8), amounts, value=int(fill)).to(torch.bool)
    return functional.pad(value, amounts, value=fill)


def _places(mode: str, size: Size, before: Size, after: Size) -> Tensor:
    """Where each element of a padded axis is read."""
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if is_symbolic_number(size):  # less than a size at each end
        if mode == "wrap":
            return torch.where(places < 0, places + size, torch.where(places >= size, places - size, places))
        turned = places.abs()
        return torch.where(turned >= size, 2 * (size - 1) - turned, turned)
    if mode == "wrap":
        return places % size
    period = max(2 * (size - 1), 1)
    turned = places % period
    return torch.where(turned >= size, period - turned, turned)


def depth_to_space(call: Call) -> Tensor:
    """Blocks of channels become pixels, in one of two orders."""
    value, block = call.tensor(0), call["blocksize"]
    if call.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(value, block)
    rows, channels, height, width = value.shape
    parts = value.reshape(rows, block, block, channels // block**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(rows, channels // block**2, height * block, width * block)


def space_to_depth(call: Call) -> Tensor:
    """Pixels become blocks of channels."""
    value, block = call.tensor(0), call["blocksize"]
    rows, channels, height, width = value.shape
    if call.get("mode", "DCR") == "CRD":
        return functional.pixel_unshuffle(value, block)
    parts = value.reshape(rows, channels, height // block, block, width // block, block)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(rows, channels * block**2, height // block, width // block)


def filled(call: Call) -> Tensor:
    """One number, everywhere."""
    given = call.get("value")
    number = tensor_of(np.zeros(1, np.float32) if given is None else given).reshape(-1)[0]
    return torch.full(call.sizes(0), number.item(), dtype=number.dtype)


def arange(call: Call) -> Tensor:
    """From start to limit by steps; the bounds may be sizes."""
    start, limit, step = (call.number(place) for place in range(3))
    dtype = call.tensor(0).dtype
    if dtype.is_floating_point:
        return start + torch.arange(math.ceil((limit - start) / step)).to(dtype) * step
    return torch.arange(start, limit, step, dtype=dtype)


def eye_like(call: Call) -> Tensor:
    """Ones on a diagonal."""
    like = call.tensor(0)
    rows, columns = like.shape
    places = torch.arange(columns)[None] - torch.arange(rows)[:, None]
    return (places == call.get("k", 0)).to(call.dtype("dtype", like.dtype))


def triangle(call: Call) -> Tensor:
    """The upper or the lower triangle of matrices."""
    value, diagonal = call.tensor(0), call.number(1, 0)
    return torch.triu(value, diagonal) if call.get("upper", 1) else torch.tril(value, diagonal)


def center_crop_pad(call: Call) -> Tensor:
    """Cut, or padded with zeros, around the centre."""
    value, wanted = call.tensor(0), call.sizes(1)
    for named, target in zip(call.get("axes") or range(len(wanted)), wanted, strict=True):
        axis = named % value.ndim
        have = value.shape[axis]
        if have > target:
            value = value.narrow(axis, (have - target) // 2, target)
        elif have < target:
            before: list[Size] = [0] * value.ndim
            after: list[Size] = [0] * value.ndim
            before[axis] = (target - have) // 2
            after[axis] = target - have - before[axis]
            value = _padded(value, before, after, 0)
    return value


def image_from_columns(call: Call) -> Tensor:
    """Blocks, one a column, added up where they overlap."""
    value, image, block = call.tensor(0), call.sizes(1), call.sizes(2)
    count = len(image)
    strides, dilations = call.get("strides") or [1] * count, call.get("dilations") or [1] * count
    pads = list(call.get("pads") or [0] * 2 * count)
    rows, channels = value.shape[0], value.shape[1] // math.prod(block)
    full = [size + pads[axis] + pads[axis + count] for axis, size in enumerate(image)]
    grids = [
        torch.arange(0, full[axis] - dilations[axis] * (block[axis] - 1), strides[axis])[None, :]
        + dilations[axis] * torch.arange(block[axis])[:, None]
        for axis in range(count)
    ]
    places = torch.zeros((), dtype=torch.int64)
    for axis, grid in enumerate(grids):  # [blocks..., windows...], counted over the padded image
        view = [1] * 2 * count
        view[axis], view[axis + count] = grid.shape
        places = places * full[axis] + grid.reshape(view)
    flat = places.reshape(math.prod(block), -1).reshape(-1)
    columns = value.reshape(rows, channels, -1)
    total = torch.zeros([rows, channels, math.prod(full)], dtype=value.dtype)
    total = total.index_add(2, flat, columns).reshape(rows, channels, *full)
    return _padded(total, [0, 0, *(-size for size in pads[:count])], [0, 0, *(-size for size in pads[count:])], 0)


CONVERTERS: dict[str, Converter] = {
    "CenterCropPad": center_crop_pad,
    "Col2Im": image_from_columns,
    "Concat": concat,
    "ConstantOfShape": filled,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "EyeLike": eye_like,
    "Flatten": flatten,
    "Identity": identity,
    "Pad": pad,
    "Range": arange,
    "Reshape": reshape,
    "Shape": shape,
    "Size": size,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": triangle,
    "Unsqueeze": unsqueeze,
}
"""By operator."""
