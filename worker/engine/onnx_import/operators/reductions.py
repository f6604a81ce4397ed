"""Sums and other results over some axes, softmax, and cumulated values."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from worker.engine.onnx_import.call import Call, Converter, is_symbolic_number
from worker.engine.onnx_import.operators.elementwise import UNSIGNED, in_type, widened

Reduction = Callable[..., Tensor]


def reduction(function: Reduction, unreduced: Callable[[Tensor], Tensor] = lambda value: value) -> Converter:
    """`function` of the value, axes and `keepdim`. Axes are an attribute in older operator sets."""

    def convert(call: Call) -> Tensor:
        value, axes = call.tensor(0), call.listed("axes", 1)
        keep = bool(call.get("keepdims", 1))
        if not axes:
            if call.get("noop_with_empty_axes"):
                return unreduced(value)
            axes = list(range(value.ndim))
        if not axes:
            return unreduced(value)
        return in_type(function(value, [int(axis) for axis in axes], keep), value.dtype)

    return convert


def _mean(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001  # as torch's reductions take it
    if value.is_floating_point():
        return value.mean(axes, keep)
    return torch.div(value.sum(axes, keep), math.prod(value.shape[axis] for axis in axes), rounding_mode="trunc")


def _product(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    for axis in sorted((axis % value.ndim for axis in axes), reverse=True):
        value = value.prod(axis, keep)
    return value


def _extreme(function: Reduction, empty: int) -> Reduction:
    """The maximum or minimum; of nothing, the smallest or largest number there is."""

    def reduce(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
        if value.dtype == torch.bool:
            return reduce(value.to(torch.uint8), axes, keep).to(torch.bool)
        sizes = [value.shape[axis] for axis in axes]
        if any(not is_symbolic_number(size) and size == 0 for size in sizes):
            limit = (
                empty * math.inf
                if value.is_floating_point()
                else (torch.iinfo(value.dtype).min if empty < 0 else torch.iinfo(value.dtype).max)
            )
            return torch.full_like(value.sum(axes, keep), limit)
        return widened(lambda x: function(x, axes, keep), value)

    return reduce


def _log_sum_exp(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    wide = value if value.is_floating_point() else value.to(torch.float64)
    if any(not is_symbolic_number(value.shape[axis]) and value.shape[axis] == 0 for axis in axes):
        return wide.exp().sum(axes, keep).log()
    return torch.logsumexp(wide, axes, keep)


def _log_sum(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    return _sum(value, axes, keep).log()


def _sum(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    return widened(lambda x: x.sum(axes, keep), value)


def _l1(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    return value.abs().sum(axes, keep)


def _l2(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    return _square_sum(value, axes, keep).to(value.dtype if value.is_floating_point() else torch.float64).sqrt()


def _square_sum(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    return (value * value).sum(axes, keep)


def extreme_place(function: Reduction) -> Converter:
    """Where the largest or smallest stands: the first of equals, or the last."""

    def convert(call: Call) -> Tensor:
        value, axis, keep = call.tensor(0), call.get("axis", 0), bool(call.get("keepdims", 1))
        value = value.to(UNSIGNED.get(value.dtype, value.dtype))
        if not call.get("select_last_index"):
            return function(value, axis, keep)
        turned = function(value.flip(axis), axis, keep)
        return value.shape[axis] - 1 - turned

    return convert


def softmax_like(function: Callable[[Tensor, int], Tensor]) -> Converter:
    """Over one axis; before operator set 13 over all from it on, taken as one."""

    def convert(call: Call) -> Tensor:
        value = call.tensor(0)
        if call.node.version >= 13:
            return function(value, call.get("axis", -1))
        axis = call.get("axis", 1) % max(value.ndim, 1)
        if axis == value.ndim - 1:
            return function(value, axis)
        return function(value.flatten(axis), axis).reshape(value.shape)

    return convert


def hardmax(value: Tensor, axis: int) -> Tensor:
    """One at the first largest, zero elsewhere."""
    places = value.argmax(axis, keepdim=True)
    return torch.zeros_like(value).scatter(axis, places, torch.ones_like(places, dtype=value.dtype))


def cumulated(function: Callable[[Tensor, int], Tensor], neutral: float) -> Converter:
    """From either end, each element with or without itself."""

    def convert(call: Call) -> Tensor:
        value, axis = call.tensor(0), int(call.number(1))
        if call.get("reverse"):
            value = value.flip(axis)
        if call.get("exclusive"):
            first = torch.full_like(value.narrow(axis, 0, 1), neutral)
            value = torch.cat([first, value.narrow(axis, 0, value.shape[axis] - 1)], axis)
        value = function(value, axis).to(value.dtype)
        return value.flip(axis) if call.get("reverse") else value

    return convert


CONVERTERS: dict[str, Converter] = {
    "ArgMax": extreme_place(torch.argmax),
    "ArgMin": extreme_place(torch.argmin),
    "CumProd": cumulated(torch.cumprod, 1),
    "CumSum": cumulated(torch.cumsum, 0),
    "Hardmax": softmax_like(hardmax),
    "LogSoftmax": softmax_like(torch.log_softmax),
    "ReduceL1": reduction(_l1, torch.abs),
    "ReduceL2": reduction(_l2, torch.abs),
    "ReduceLogSum": reduction(_log_sum, torch.log),
    "ReduceLogSumExp": reduction(_log_sum_exp),
    "ReduceMax": reduction(_extreme(torch.amax, -1)),
    "ReduceMean": reduction(_mean),
    "ReduceMin": reduction(_extreme(torch.amin, 1)),
    "ReduceProd": reduction(_product),
    "ReduceSum": reduction(_sum),
    "ReduceSumSquare": reduction(_square_sum, torch.square),
    "Softmax": softmax_like(torch.softmax),
}
"""By operator."""
