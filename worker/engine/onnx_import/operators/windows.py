"""The geometry of operators that slide a window: strides, dilations and padding, however ONNX writes them."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Size


@dataclass(frozen=True)
class Window:
    """One entry for each spatial axis."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[Size]
    """Padding at the beginning of each axis."""
    after: list[Size]
    """Padding at the end."""

    @property
    def symmetric(self) -> bool:
        """Whether both ends are padded alike."""
        return self.before == self.after

    @property
    def padded(self) -> bool:
        """Whether any padding is there."""
        return any(isinstance(size, int) is False or size != 0 for size in (*self.before, *self.after))

    def pad(self, value: Tensor, fill: float) -> Tensor:
        """`value` with its padding."""
        amounts = [size for pair in reversed(list(zip(self.before, self.after, strict=True))) for size in pair]
        return functional.pad(value, amounts, value=fill)


def window_of(call: Call, kernel: list[int], spatial: list[Size]) -> Window:
    """The window of a call on a tensor with these spatial sizes."""
    count = len(kernel)
    strides, dilations = call.get("strides") or [1] * count, call.get("dilations") or [1] * count
    pads = list(call.get("pads") or [0] * 2 * count)
    if len(pads) == count:
        pads = [*pads, *pads]
    mode = call.get("auto_pad", "NOTSET")
    if mode == "VALID":
        pads = [0] * 2 * count
    if mode.startswith("SAME"):
        pads = _same(mode, kernel, strides, dilations, spatial)
    return Window(list(kernel), list(strides), list(dilations), pads[:count], pads[count:])


def _same(mode: str, kernel: list[int], strides: list[int], dilations: list[int], spatial: list[Size]) -> list[Size]:
    """Padding after which the result has a size of `ceil(size / stride)`; the odd one goes to one end."""
    before, after = [], []
    for width, stride, dilation, size in zip(kernel, strides, dilations, spatial, strict=True):
        reach = dilation * (width - 1) + 1
        total = max(0, reach - stride) if size % stride == 0 else max(0, reach - size % stride)
        less, more = total // 2, total - total // 2
        before.append(less if mode == "SAME_UPPER" else more)
        after.append(more if mode == "SAME_UPPER" else less)
    return [*before, *after]
