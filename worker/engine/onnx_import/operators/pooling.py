"""Pooling by windows and over everything."""

import itertools
import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter, Size
from worker.engine.onnx_import.operators.windows import Window, window_of

MAX: list[Callable[..., Tensor]] = [functional.max_pool1d, functional.max_pool2d, functional.max_pool3d]
AVERAGE: list[Callable[..., Tensor]] = [functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d]
GLOBAL_AVERAGE: list[Any] = [
    functional.adaptive_avg_pool1d,
    functional.adaptive_avg_pool2d,
    functional.adaptive_avg_pool3d,
]
GLOBAL_MAX: list[Any] = [
    functional.adaptive_max_pool1d,
    functional.adaptive_max_pool2d,
    functional.adaptive_max_pool3d,
]


def global_pool(operators: list[Any]) -> Converter:
    """One number for each channel."""

    def convert(call: Call) -> Tensor:
        image = call.tensor(0)
        pooled: Tensor = operators[image.ndim - 3](image, [1] * (image.ndim - 2))
        return pooled

    return convert


def max_pool(call: Call) -> Any:
    """The largest of each window; also where it stands, among all elements, if that is asked for."""
    image = call.tensor(0)
    window = window_of(call, call["kernel_shape"], list(image.shape[2:]))
    window = _reached(image, window, ceil=bool(call.get("ceil_mode")))
    if len(call.node.outputs) > 1 and call.node.outputs[1]:
        return _with_places(image, window, column_major=bool(call.get("storage_order")))
    if not image.is_floating_point():
        return _largest(image, window, torch.iinfo(image.dtype).min)
    inside = window.symmetric and all(
        isinstance(pad, int) and 2 * pad <= width for pad, width in zip(window.before, window.kernel, strict=True)
    )
    if not inside:
        image, window = window.pad(image, -math.inf), _unpadded(window)
    return MAX[len(window.kernel) - 1](image, window.kernel, window.strides, window.before, window.dilations)


def _unpadded(window: Window) -> Window:
    none: list[Size] = [0] * len(window.kernel)
    return Window(window.kernel, window.strides, window.dilations, none, none)


def _reached(image: Tensor, window: Window, *, ceil: bool) -> Window:
    """With `ceil` windows may begin inside and end beyond the padding: it is made as large as that."""
    if not ceil:
        return window
    after = []
    for axis, size in enumerate(image.shape[2:]):
        reach = window.dilations[axis] * (window.kernel[axis] - 1) + 1
        before, end, stride = window.before[axis], window.after[axis], window.strides[axis]
        count = -(-(size + before + end - reach) // stride) + 1
        if (count - 1) * stride >= size + before:
            count -= 1
        after.append(max((count - 1) * stride + reach - size - before, end))
    return Window(window.kernel, window.strides, window.dilations, window.before, after)


def _windows(image: Tensor, window: Window) -> Tensor:
    """Views of every window, `[rows, channels, *windows, elements]`, of a padded image."""
    spatial = len(window.kernel)
    cut = image
    for axis in range(spatial):
        reach = window.dilations[axis] * (window.kernel[axis] - 1) + 1
        cut = cut.unfold(2 + axis, reach, window.strides[axis])
    for axis in range(spatial):
        places = [slice(None)] * cut.ndim
        places[2 + spatial + axis] = slice(None, None, window.dilations[axis])
        cut = cut[tuple(places)]
    return cut.flatten(2 + spatial)


def _largest(image: Tensor, window: Window, fill: float) -> Tensor:
    return _windows(window.pad(image, fill), window).amax(-1)


def _with_places(image: Tensor, window: Window, *, column_major: bool) -> tuple[Tensor, Tensor]:
    """Places are counted over the whole tensor, rows and channels included."""
    spatial = list(image.shape[2:])
    order = torch.arange(image.numel()).reshape(image.shape)
    if column_major:
        transposed = [*image.shape[:2], *reversed(spatial)]
        order = torch.arange(image.numel()).reshape(transposed)
        order = order.permute(0, 1, *range(image.ndim - 1, 1, -1))
    fill = -math.inf if image.is_floating_point() else torch.iinfo(image.dtype).min
    values, places = _windows(window.pad(image, fill), window).max(-1)
    positions = torch.gather(_windows(window.pad(order, 0), window), -1, places.unsqueeze(-1)).squeeze(-1)
    return values, positions


def average_pool(call: Call) -> Tensor:
    """What is padded counts if `count_include_pad` says so; what `ceil_mode` adds never does."""
    image = call.tensor(0)
    window = window_of(call, call["kernel_shape"], list(image.shape[2:]))
    include, ceil = bool(call.get("count_include_pad")), bool(call.get("ceil_mode"))
    by_torch = (
        window.symmetric
        and not ceil
        and set(window.dilations) == {1}
        and all(
            isinstance(pad, int) and 2 * pad <= width for pad, width in zip(window.before, window.kernel, strict=True)
        )
    )
    if by_torch:
        return AVERAGE[len(window.kernel) - 1](
            image, window.kernel, window.strides, window.before, count_include_pad=include
        )
    reached = _reached(image, window, ceil=ceil)
    counted = torch.ones_like(image[:1, :1])
    if include:
        counted = window.pad(counted, 1.0)
        rest = [more - pad for more, pad in zip(reached.after, window.after, strict=True)]
        none: list[Size] = [0] * len(rest)
        counted = Window(window.kernel, window.strides, window.dilations, none, rest).pad(counted, 0.0)
    else:
        counted = reached.pad(counted, 0.0)
    total = _windows(reached.pad(image, 0.0), reached).sum(-1)
    return total / _windows(counted, reached).sum(-1)


def lp_pool(call: Call) -> Tensor:
    """The p-norm of each window."""
    image, power = call.tensor(0), call.get("p", 2)
    window = window_of(call, call["kernel_shape"], list(image.shape[2:]))
    window = _reached(image, window, ceil=bool(call.get("ceil_mode")))
    return _windows(window.pad(image, 0.0), window).abs().pow(power).sum(-1).pow(1 / power)


def global_lp_pool(call: Call) -> Tensor:
    """The p-norm of each channel."""
    image = call.tensor(0)
    return torch.linalg.vector_norm(image, call.get("p", 2), list(range(2, image.ndim)), keepdim=True)


def max_unpool(call: Call) -> Tensor:
    """Values put back where `MaxPool` found them, zero elsewhere."""
    values, places = call.tensor(0), call.tensor(1)
    window = window_of(call, call["kernel_shape"], list(values.shape[2:]))
    own = [
        (size - 1) * stride - before - after + width
        for size, stride, before, after, width in zip(
            values.shape[2:], window.strides, window.before, window.after, window.kernel, strict=True
        )
    ]
    shape = [*values.shape[:2], *own]
    wanted = call.sizes(2) if call.has(2) else shape
    flat = torch.zeros([math.prod(shape)], dtype=values.dtype)
    made = flat.scatter(0, places.reshape(-1), values.reshape(-1)).reshape(shape)
    grown = [more - size for more, size in zip(wanted, shape, strict=True)]
    return functional.pad(made, [amount for axis in reversed(grown) for amount in (0, axis)])


def roi_align(call: Call) -> Tensor:
    """Boxes cut out of feature maps and brought to one size, each cell a mean (or maximum) of bilinear samples."""
    image, boxes, rows = call.tensor(0), call.tensor(1), call.tensor(2)
    height, width = call.get("output_height", 1), call.get("output_width", 1)
    ratio, scale = call.get("sampling_ratio", 0), call.get("spatial_scale", 1.0)
    mode = call.get("coordinate_transformation_mode", "half_pixel" if call.node.version >= 16 else "output_half_pixel")
    if ratio == 0:
        raise call.refusal("sampling_ratio 0 takes as many samples as a box is large")
    offset = 0.5 if mode == "half_pixel" else 0.0
    x0, y0, x1, y1 = (boxes * scale - offset).unbind(-1)
    box_width, box_height = x1 - x0, y1 - y0
    if mode == "output_half_pixel":
        box_width, box_height = box_width.clamp(min=1.0), box_height.clamp(min=1.0)
    y = y0[:, None] + (torch.arange(height * ratio) + 0.5) * (box_height / (height * ratio))[:, None]
    x = x0[:, None] + (torch.arange(width * ratio) + 0.5) * (box_width / (width * ratio))[:, None]
    count, channels = boxes.shape[0], image.shape[1]
    parts = [part.reshape(count, channels, height, ratio, width, ratio) for part in _corners(image, rows, y, x)]
    if call.get("mode", "avg") == "max":  # of the weighted corners, as ONNX has it
        return reduce(torch.maximum, parts).amax((3, 5))
    return reduce(torch.add, parts).mean((3, 5))


def _corners(image: Tensor, rows: Tensor, y: Tensor, x: Tensor) -> list[Tensor]:
    """The four summands of bilinear samples `[boxes, channels, ys, xs]`; zero beyond one pixel outside."""
    height, width = image.shape[2:]
    inside = ((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None, :]
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.floor().long(), x.floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, along = (y - top)[:, None, :, None], (x - left)[:, None, None, :]
    parts = []
    for ys, xs in itertools.product(((top, 1 - down), (bottom, down)), ((left, 1 - along), (right, along))):
        read = image[rows[:, None, None], :, ys[0][:, :, None], xs[0][:, None, :]].permute(0, 3, 1, 2)
        parts.append(read * ys[1] * xs[1] * inside[:, None].to(image.dtype))
    return parts


CONVERTERS: dict[str, Converter] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_pool(GLOBAL_AVERAGE),
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_pool(GLOBAL_MAX),
    "LpPool": lp_pool,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
    "RoiAlign": roi_align,
}
"""By operator."""
