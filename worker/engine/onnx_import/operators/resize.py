"""Resize in all its modes, and sampling at places that are computed.

Where torch has the same operator it is used; else every axis is resized by itself: each element of the result is a
weighted sum of a few of the input, whose places and weights follow from the mode.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter, Size, is_symbolic_number

SPATIAL = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class _Axis:
    """What one axis becomes."""

    axis: int
    size: Size
    """Before."""
    target: Size
    scale: Any
    """Of the new size to the old one, as the file states it."""
    window: tuple[float, float] = (0.0, 1.0)
    """The part of the input that is read (`tf_crop_and_resize`)."""

    @property
    def stays(self) -> bool:
        """Whether the axis keeps its size and its values."""
        return isinstance(self.scale, float) and self.scale == 1 and self.window == (0.0, 1.0)


def resize(call: Call) -> Tensor:
    """By scales or to sizes."""
    value = call.tensor(0)
    axes = _axes(call, value)
    mode, how = call.get("mode", "nearest"), call.get("coordinate_transformation_mode", "half_pixel")
    if call.node.op == "Upsample" or call.node.version < 11:
        how = "asymmetric"
    moved = [axis for axis in axes if not axis.stays]
    if not moved:
        return value
    spatial = value.ndim - 2
    of_images = 1 <= spatial <= 3 and all(axis.axis >= 2 for axis in moved)
    if of_images and not call.get("antialias") and how != "tf_crop_and_resize":
        resized = _by_torch(call, value, axes[-spatial:], mode, how)
        if resized is not None:
            return resized
    return _axis_by_axis(call, value, moved, mode, how)


def _axes(call: Call, value: Tensor) -> list[_Axis]:
    """One entry for each axis of the value."""
    place = 1 if call.node.op == "Upsample" or call.node.version < 11 else 2
    named = [int(axis) % value.ndim for axis in call.get("axes") or range(value.ndim)]
    windows = _windows(call, value.ndim, named)
    scales: list[Any] = [1.0] * value.ndim
    sizes: list[Size] = list(value.shape)
    given = list(call.numbers(place).reshape(-1)) if call.has(place) else list(call.get("scales") or [])
    if given:
        for axis, scale in zip(named, given, strict=True):
            scales[axis] = scale if is_symbolic_number(scale) else float(scale)
            extent = windows[axis][1] - windows[axis][0]
            sizes[axis] = _scaled(value.shape[axis], scales[axis] * extent if extent != 1 else scales[axis])
    else:
        wanted = _kept_ratio(call, value, named, call.sizes(3))
        for axis, size in zip(named, wanted, strict=True):
            scales[axis] = 1.0 if size is value.shape[axis] else size / value.shape[axis]
            sizes[axis] = size
    return [_Axis(axis, size, sizes[axis], scales[axis], windows[axis]) for axis, size in enumerate(value.shape)]


def _windows(call: Call, rank: int, named: list[int]) -> list[tuple[float, float]]:
    windows = [(0.0, 1.0)] * rank
    if call.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        bounds = [float(number) for number in call.numbers(1).reshape(-1)]
        for place, axis in enumerate(named):
            windows[axis] = bounds[place], bounds[place + len(named)]
    return windows


def _scaled(size: Size, scale: Any) -> Size:
    """`floor(size * scale)`, without a fraction where the scale has none."""
    if isinstance(scale, float) and scale.is_integer():
        return size * int(scale)
    if isinstance(scale, float) and is_symbolic_number(size) and (1 / scale).is_integer():
        return size // int(1 / scale)
    return math.floor(size * scale)


def _kept_ratio(call: Call, value: Tensor, named: list[int], wanted: list[Size]) -> list[Size]:
    policy = call.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return wanted
    ratios = [size / value.shape[axis] for axis, size in zip(named, wanted, strict=True)]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(value.shape[axis] * ratio + 0.5) for axis in named]


def _by_torch(call: Call, value: Tensor, axes: list[_Axis], mode: str, how: str) -> Tensor | None:
    """Torch's operator of the same definition, if there is one."""
    exact = all(_exact(axis) for axis in axes)
    sizes = [axis.target for axis in axes]
    scales = [axis.scale for axis in axes]
    whole = all(isinstance(scale, float) and scale.is_integer() for scale in scales)
    arguments: dict[str, Any] = {"scale_factor": scales} if whole else {"size": sizes}
    if mode == "nearest":
        rounding = call.get("nearest_mode", "round_prefer_floor")
        floors = how == "asymmetric" and (rounding == "floor" or call.node.version < 11)
        # with whole factors all of these read the same elements
        floors = floors or (whole and how == "half_pixel" and rounding in ("round_prefer_floor", "round_prefer_ceil"))
        return functional.interpolate(value, mode="nearest", **arguments) if floors and exact else None
    pixels = how == "half_pixel" or (how == "pytorch_half_pixel" and all(_above_one(size) for size in sizes))
    if mode in ("linear", "bilinear") and (pixels or how == "align_corners"):
        corners = how == "align_corners"
        if not exact and not corners:
            return None
        given: dict[str, Any] = {"size": sizes} if corners else arguments
        return functional.interpolate(value, mode=SPATIAL[len(axes)], align_corners=corners, **given)
    cubic = mode == "cubic" and len(axes) == 2 and call.get("cubic_coeff_a", -0.75) == -0.75
    if cubic and not call.get("exclude_outside") and (pixels or how == "align_corners") and exact:
        return functional.interpolate(value, sizes, mode="bicubic", align_corners=how == "align_corners")
    return None


def _above_one(size: Size) -> bool:
    return is_symbolic_number(size) or size > 1


def _exact(axis: _Axis) -> bool:
    """Whether the scale is the ratio of the sizes, as torch has it."""
    if not isinstance(axis.scale, float):
        return True
    if axis.scale.is_integer() or ((1 / axis.scale).is_integer() and is_symbolic_number(axis.size)):
        return True
    if is_symbolic_number(axis.size):
        return False
    return math.isclose(axis.target / axis.size, axis.scale, rel_tol=1e-6)


def _axis_by_axis(call: Call, value: Tensor, axes: list[_Axis], mode: str, how: str) -> Tensor:
    for axis in axes:
        at = _coordinates(axis, how)
        if mode == "nearest":
            value = value.index_select(axis.axis, _nearest(call, axis, at))
        else:
            value = _weighted(call, value, axis, at, cubic=mode == "cubic")
    if how == "tf_crop_and_resize":
        value = _outside(value, axes, call.get("extrapolation_value", 0.0))
    return value


def _coordinates(axis: _Axis, how: str) -> Tensor:
    """Where each element of the result is read, in elements of the input, float64."""
    out = torch.arange(axis.target).to(torch.float64)
    size, target = axis.size, axis.target
    scale = axis.scale
    match how:
        case "asymmetric":
            return out / scale
        case "align_corners":
            return out * (size - 1) / (target - 1) if _above_one(target) else torch.zeros_like(out)
        case "half_pixel_symmetric":
            return size / 2 * (1 - target / (scale * size)) + (out + 0.5) / scale - 0.5
        case "tf_crop_and_resize":
            return _in_window(axis, out)
        case "pytorch_half_pixel" if not _above_one(target):
            return torch.zeros_like(out)
    return (out + 0.5) / scale - 0.5


def _in_window(axis: _Axis, out: Tensor) -> Tensor:
    first, last = axis.window
    if not _above_one(axis.target):
        return out * 0 + 0.5 * (first + last) * (axis.size - 1)
    return first * (axis.size - 1) + out * (last - first) * (axis.size - 1) / (axis.target - 1)


def _nearest(call: Call, axis: _Axis, at: Tensor) -> Tensor:
    rounding = call.get("nearest_mode", "round_prefer_floor")
    if call.node.op == "Upsample" or call.node.version < 11:
        rounding = "floor"
    rounded: dict[str, Callable[[Tensor], Tensor]] = {
        "floor": torch.floor,
        "ceil": torch.ceil,
        "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
    }
    return rounded[rounding](at).to(torch.int64).clamp(0, axis.size - 1)


def _weighted(call: Call, value: Tensor, axis: _Axis, at: Tensor, *, cubic: bool) -> Tensor:
    """The weighted sum over the elements around each place."""
    spread = 1.0
    if call.get("antialias") and not is_symbolic_number(axis.scale) and axis.scale < 1:
        spread = axis.scale
    reach = math.ceil((2 if cubic else 1) / spread)
    first = torch.floor(at) - reach + 1
    taps = first[:, None] + torch.arange(2 * reach)[None]
    distance = (at[:, None] - taps).abs() * spread
    weights = _cubic(distance, call.get("cubic_coeff_a", -0.75)) if cubic else (1 - distance).clamp(min=0)
    inside = (taps >= 0) & (taps <= axis.size - 1)
    if call.get("exclude_outside") or (call.get("antialias") and spread < 1):
        weights = weights * inside if call.get("exclude_outside") else weights
        weights = weights / weights.sum(1, keepdim=True)
    places = taps.to(torch.int64).clamp(0, axis.size - 1)
    parts = value.index_select(axis.axis, places.reshape(-1))
    shape = [*value.shape[: axis.axis], axis.target, 2 * reach, *value.shape[axis.axis + 1 :]]
    trailing = [1] * (value.ndim - axis.axis - 1)
    scaled = parts.reshape(shape) * weights.to(value.dtype).reshape(-1, 2 * reach, *trailing)
    return scaled.sum(axis.axis + 1).to(value.dtype)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys' kernel."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def _outside(value: Tensor, axes: list[_Axis], fill: float) -> Tensor:
    for axis in axes:
        at = _coordinates(axis, "tf_crop_and_resize")
        inside = (at >= 0) & (at <= axis.size - 1)
        view = [1] * value.ndim
        view[axis.axis] = -1
        value = torch.where(inside.reshape(view), value, torch.full_like(value, fill))
    return value


def grid_sample(call: Call) -> Tensor:
    """Images read at places from -1 to 1. Torch has no cubic one of volumes."""
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(call.get("mode", "linear"), call.get("mode", "linear"))
    image, grid = call.tensor(0), call.tensor(1)
    if image.ndim == 5 and mode == "bicubic":
        raise call.refusal("cubic sampling of volumes")
    return functional.grid_sample(
        image, grid, mode, call.get("padding_mode", "zeros"), bool(call.get("align_corners", 0))
    )


def affine_grid(call: Call) -> Tensor:
    """The places that an affine map of the corners reads."""
    return functional.affine_grid(call.tensor(0), call.sizes(1), bool(call.get("align_corners", 0)))


CONVERTERS: dict[str, Converter] = {
    "AffineGrid": affine_grid,
    "GridSample": grid_sample,
    "Resize": resize,
    "Upsample": resize,
}
"""By operator."""
