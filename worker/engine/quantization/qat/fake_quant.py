"""Values rounded to the grid of a few bits, with a scale that is learned."""

from typing import Any

import torch
from torch import Tensor, nn

from worker.engine.plan.plan import Grid


class RoundToGrid(torch.autograd.Function):
    """`scale * (clamp(round(x / scale + zero_point), low, high) - zero_point)`, straight through the rounding.

    Gradients by S. Esser et al., "Learned Step Size Quantization", 2020: that of `x` passes where its code is inside,
    that of the scale is the rounding error there and the cut code outside, shrunk by `1 / sqrt(elements * codes)` so
    that its updates, too, are of the order of the scale. One function instead of its six operators: they would keep
    five tensors of the activation's size for the backward pass; this keeps one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: int, low: int, high: int) -> Tensor:
        """`x` of any shape and `scale`, which broadcasts to it; the grid's values, of the shape of `x`."""
        codes = x / scale
        ctx.save_for_backward(codes, scale)
        ctx.grid = (zero_point, low, high)
        return _rounded(codes, low - zero_point, high - zero_point) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of `x` and of `scale`."""
        (gradient,), (codes, scale) = gradients, ctx.saved_tensors
        zero_point, low, high = ctx.grid
        bottom, top = low - zero_point, high - zero_point
        inside = (codes >= bottom) & (codes <= top)
        passed = gradient * inside
        share = (codes.numel() / scale.numel() * max(-bottom, top)) ** -0.5
        by_scale = gradient * _rounded(codes, bottom, top) - passed * codes
        return passed, share * by_scale.sum_to_size(scale.shape), None, None, None


def _rounded(codes: Tensor, bottom: int, top: int) -> Tensor:
    return codes.round().clamp_(bottom, top)


class Quantizer(nn.Module):
    """A tensor on its grid. What is learned is the logarithm of the scale's ratio to the one it began with.

    A logarithm keeps the scale positive, makes an optimizer's step a share of it, however small the tensor's values
    are (S. Jain et al., "Trained Quantization Thresholds", 2020), and a ratio makes weight decay pull towards the
    calibrated scale and not towards 1.
    """

    initial: Tensor

    def __init__(self, grid: Grid, most: float = float("inf")) -> None:
        """Begin with `grid`; no scale becomes larger than `most`."""
        super().__init__()
        scales = torch.tensor(grid.scales, dtype=torch.float32)
        self.zero_point, self.low, self.high, self.axis, self.most = (
            grid.zero_point,
            grid.low,
            grid.high,
            grid.axis,
            most,
        )
        self.register_buffer("initial", scales)
        self.log_ratio = nn.Parameter(torch.zeros_like(scales))

    def scale(self) -> Tensor:
        """float32, `[1]` or `[channels]`."""
        return (self.initial * self.log_ratio.exp()).clamp(max=self.most)

    def forward(self, x: Tensor) -> Tensor:
        """`x` on the grid."""
        scale = self.scale()
        if self.axis is not None:
            shape = [1] * x.ndim
            shape[self.axis] = -1
            scale = scale.view(shape)
        return RoundToGrid.apply(x, scale, self.zero_point, self.low, self.high)

    def grid(self) -> Grid:
        scales = tuple(self.scale().detach().tolist())
        return Grid(scales, self.low, self.high, self.zero_point, self.axis)


class BiasQuantizer(nn.Module):
    """A bias in steps of an accumulator: its scale is the product of those of input and weight, which train it."""

    def __init__(self, product_of: tuple[Quantizer, Quantizer]) -> None:
        """The quantizers of the layer's input and weight; in a tuple they are not this module's children."""
        super().__init__()
        self.product_of = product_of

    def forward(self, bias: Tensor) -> Tensor:
        """`bias`, `[channels]`, rounded straight through."""
        inputs, weights = self.product_of
        step = (inputs.scale() * weights.scale()).detach()
        return bias + ((bias / step).round() * step - bias).detach()
