"""Second moments of the inputs of products, gathered while calibration rows stream by."""

from dataclasses import dataclass

import numpy as np
import torch
from onnx import NodeProto

from worker.engine.plan.layout import Weight, attribute
from worker.engine.quantization.errors import CalibrationFailed
from worker.engine.quantization.statistics.point import Observation, Reduction

MOST_COLUMNS = 4608
"""Inputs of one output, at most: their moments take 85 MB and a minute of one core to invert."""
POSITIONS = 1024
"""Places of an image, at most, whose patches count: neighbouring ones tell the same."""


@dataclass(frozen=True)
class Inputs:
    """Where a weight's inputs come from: products that read the same tensor alike share their moments."""

    tensor: str
    columns: int
    kernel: tuple[int, ...] = ()
    """Height and width for a convolution."""
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()

    def rows_of(self, values: np.ndarray) -> np.ndarray:
        """The inputs of single outputs, float32 `[positions, columns]`, in one batch of the tensor."""
        if not self.kernel:
            return values.reshape(-1, self.columns)
        top, left, bottom, right = self.pads
        patches = []
        for image in torch.from_numpy(values).split(1):
            padded = torch.nn.functional.pad(image, (left, right, top, bottom))
            unfolded = torch.nn.functional.unfold(padded, self.kernel, dilation=self.dilations, stride=self.strides)
            step = -(-unfolded.shape[2] // POSITIONS)
            patches.append(unfolded[0, :, ::step].T)
        return torch.cat(patches).numpy()


def inputs_of(weight: Weight) -> Inputs | None:
    """The inputs of a weight whose outputs are sums over them; None where that is not known how."""
    node, columns = weight.node, weight.layout.columns
    if columns > MOST_COLUMNS:
        return None
    if node.op_type in ("MatMul", "Gemm") and len(weight.layout.shape) == 2:
        return Inputs(node.input[0], columns)
    if node.op_type != "Conv" or len(weight.layout.shape) != 4 or attribute(node, "group", 1) != 1:
        return None
    if any(entry.name == "auto_pad" and entry.s not in (b"", b"NOTSET") for entry in node.attribute):
        return None
    return Inputs(
        node.input[0],
        columns,
        weight.layout.shape[2:],
        _numbers(node, "strides", (1, 1)),
        _numbers(node, "dilations", (1, 1)),
        _numbers(node, "pads", (0, 0, 0, 0)),
    )


class SecondMoments:
    """The sum of x x^T over all inputs x of a product, float64 `[columns, columns]`."""

    reductions: tuple[Reduction, ...] = ()
    reads_array = True

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self.clear()

    def clear(self) -> None:
        self.sum = np.zeros((self._inputs.columns, self._inputs.columns))

    def update(self, seen: Observation) -> None:
        """Take in one batch. Raises `CalibrationFailed` where it holds values that are not finite."""
        if seen.array is None:
            return
        rows = self._inputs.rows_of(seen.array)
        moments = rows.T @ rows
        if not np.isfinite(np.diag(moments)).all():  # the others are no larger than these
            raise CalibrationFailed(
                f"Tensor {self._inputs.tensor} takes values that are not finite on the calibration data."
            )
        self.sum += moments


def _numbers(node: NodeProto, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return next((tuple(int(size) for size in entry.ints) for entry in node.attribute if entry.name == name), default)
