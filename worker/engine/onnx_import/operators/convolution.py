"""Convolutions, plain, transposed and deformable."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter, Size
from worker.engine.onnx_import.operators.windows import Window, window_of

PLAIN: list[Callable[..., Tensor]] = [functional.conv1d, functional.conv2d, functional.conv3d]
TRANSPOSED: list[Callable[..., Tensor]] = [
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
]


def convolution(call: Call) -> Tensor:
    """One, two or three spatial axes."""
    return convolved(call, call.tensor(0), call.tensor(1), call.optional(2))


def convolved(call: Call, image: Tensor, weight: Tensor, bias: Tensor | None, fill: float = 0.0) -> Tensor:
    """`image` and `weight` under the attributes of a call."""
    window = window_of(call, list(weight.shape[2:]), list(image.shape[2:]))
    operator = _of_rank(call, PLAIN, weight)
    padding: list[Size] = window.before
    if not window.symmetric or fill:
        image, padding = window.pad(image, fill), [0] * len(window.kernel)
    return operator(image, weight, bias, window.strides, padding, window.dilations, call.get("group", 1))


def _of_rank(call: Call, operators: list[Callable[..., Tensor]], weight: Tensor) -> Callable[..., Tensor]:
    spatial = weight.ndim - 2
    if not 1 <= spatial <= len(operators):
        raise call.refusal(f"it has {spatial} spatial axes")
    return operators[spatial - 1]


def transposed(call: Call) -> Tensor:
    """The result is cut to `output_shape`, or by `pads` that differ at both ends."""
    image, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    count = weight.ndim - 2
    operator = _of_rank(call, TRANSPOSED, weight)
    extra, wanted = list(call.get("output_padding") or [0] * count), call.get("output_shape")
    mode = call.get("auto_pad", "NOTSET")
    window = window_of(call, list(weight.shape[2:]), [1] * count)
    before, after = list(window.before), list(window.after)
    if wanted or mode.startswith("SAME"):
        full = _full_sizes(image, window, extra)
        targets = (
            wanted[-count:]
            if wanted
            else [size * stride for size, stride in zip(image.shape[2:], window.strides, strict=True)]
        )
        for axis, (size, target) in enumerate(zip(full, targets, strict=True)):
            total = size - target
            less = total // 2
            before[axis], after[axis] = (less, total - less) if mode == "SAME_UPPER" else (total - less, less)
    arguments: list[Any] = [image, weight, bias, window.strides]
    group = call.get("group", 1)
    if before == after and all(isinstance(size, int) and size >= 0 for size in before):
        return operator(*arguments, before, extra, group, window.dilations)
    whole = operator(*arguments, [0] * count, extra, group, window.dilations)
    amounts = [-size for pair in reversed(list(zip(before, after, strict=True))) for size in pair]
    return functional.pad(whole, amounts)


def _full_sizes(image: Tensor, window: Window, extra: list[int]) -> list[Size]:
    """Sizes of the result before anything is cut."""
    return [
        (size - 1) * stride + dilation * (width - 1) + 1 + more
        for size, stride, dilation, width, more in zip(
            image.shape[2:], window.strides, window.dilations, window.kernel, extra, strict=True
        )
    ]


def deformable(call: Call) -> Tensor:
    """Every tap of the window reads at an offset of its own, bilinearly, zero outside (DCN v2).

    The samples of all taps are gathered, then it is one matrix product per group. Two spatial axes.
    """
    image, weight, offset = call.tensor(0), call.tensor(1), call.tensor(2)
    bias, mask = call.optional(3), call.optional(4)
    if weight.ndim != 4:
        raise call.refusal("it has other than two spatial axes")
    window = window_of(call, list(call.get("kernel_shape") or weight.shape[2:]), list(image.shape[2:]))
    groups, offset_groups = call.get("group", 1), call.get("offset_group", 1)
    rows, channels = image.shape[:2]
    height, width = offset.shape[2:]
    taps = window.kernel[0] * window.kernel[1]
    offset = offset.reshape(rows, offset_groups, taps, 2, height, width)
    samples = []
    for tap, (y, x) in enumerate(itertools.product(range(window.kernel[0]), range(window.kernel[1]))):
        base_y = torch.arange(height) * window.strides[0] - window.before[0] + y * window.dilations[0]
        base_x = torch.arange(width) * window.strides[1] - window.before[1] + x * window.dilations[1]
        at_y = base_y[:, None].to(image.dtype) + offset[:, :, tap, 0]
        at_x = base_x.to(image.dtype) + offset[:, :, tap, 1]
        read = _bilinear(
            image.reshape(rows * offset_groups, -1, *image.shape[2:]), at_y.flatten(0, 1), at_x.flatten(0, 1)
        )
        read = read.reshape(rows, offset_groups, -1, height, width)
        if mask is not None:
            read = read * mask.reshape(rows, offset_groups, taps, height, width)[:, :, tap].unsqueeze(2)
        samples.append(read.reshape(rows, channels, height, width))
    columns = torch.stack(samples, 2).reshape(rows, groups, channels // groups * taps, height * width)
    product = weight.reshape(groups, -1, channels // groups * taps) @ columns
    result = product.reshape(rows, -1, height, width)
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)


def _bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """`image` [n, c, h, w] at the places `y`, `x` [n, height, width] in pixels; zero outside."""
    height, width = image.shape[2:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def causal_with_state(call: Call) -> tuple[Tensor, Tensor]:
    """Depthwise over time, going on from the last inputs of the call before; also the last inputs of this one."""
    series, weight = call.tensor(0), call.tensor(1)
    kept = weight.shape[2] - 1
    joined = torch.cat([call.tensor(3), series], 2) if call.has(3) else functional.pad(series, [kept, 0])
    result = functional.conv1d(joined, weight, call.optional(2), groups=weight.shape[0])
    if call.get("activation", "none") in ("silu", "swish"):
        result = functional.silu(result)
    return result, joined[:, :, joined.shape[2] - kept :]


CONVERTERS: dict[str, Converter] = {
    "CausalConvWithState": causal_with_state,
    "Conv": convolution,
    "ConvTranspose": transposed,
    "DeformConv": deformable,
}
"""By operator."""
