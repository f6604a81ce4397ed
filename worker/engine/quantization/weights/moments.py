"""What reaches the weights: second moments of each product's inputs, gathered while calibration rows stream by."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper

from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.errors import CalibrationFailed
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.sessions import session
from worker.engine.plan.layout import Weight, attribute
from worker.engine.quantization.calibration import add_size, feeds_of, groups, in_batches, row_sizes, run

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


def second_moments(graph: Path, wanted: Iterable[Inputs], rows: Rows, context: Context) -> dict[Inputs, np.ndarray]:
    """The sum of x x^T over all inputs x, float64 `[columns, columns]`. Raises `CalibrationFailed`."""
    wanted = tuple(dict.fromkeys(wanted))
    tensors = tuple(dict.fromkeys(one.tensor for one in wanted))
    model = onnx.load(graph)
    present = {output.name for output in model.graph.output} | {entry.name for entry in model.graph.input}
    for name in tensors:
        if name not in present:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        add_size(model, name)
    runner = session(save(model, context.scratch / "moments.onnx")[0], context.threads)
    elements = row_sizes(runner, tensors, rows)
    feeds = {entry.name for entry in runner.get_inputs()}

    def measure(batch: int) -> dict[Inputs, np.ndarray]:
        sums = {one: np.zeros((one.columns, one.columns)) for one in wanted}
        done = 0
        for count, given in feeds_of(rows, runner, batch):
            size = len(next(iter(given.values())))
            for group in groups((name for name in tensors if name not in feeds), elements, size):
                computed = run(runner, group, given, rows.indices[done : done + count])
                values = dict(zip(group, computed, strict=True))
                _add(sums, values)
            _add(sums, {name: given[name] for name in feeds & set(tensors)})
            done += count
            context.progress.advance(done / len(rows), f"{done} of {len(rows)} rows, second moments")
        return sums

    found, _ = in_batches(measure, runner, elements.values(), context)
    for one, moments in found.items():
        if not np.isfinite(moments).all():
            raise CalibrationFailed(f"Tensor {one.tensor} takes values that are not finite on the calibration data.")
    return found


def _add(sums: dict[Inputs, np.ndarray], values: dict[str, np.ndarray]) -> None:
    for one in sums:
        if one.tensor in values:
            flat = one.rows_of(values[one.tensor])
            sums[one] += flat.T @ flat


def _numbers(node: NodeProto, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return next((tuple(int(one) for one in entry.ints) for entry in node.attribute if entry.name == name), default)
