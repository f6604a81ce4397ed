"""The smallest and the largest value in each channel, over calibration rows and in constant memory."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.errors import CalibrationFailed
from worker.engine.onnx_graph.file import default_opset, save
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.onnx_graph.sessions import session
from worker.engine.quantization.calibration import (
    HIGHEST,
    LOWEST,
    SIZE,
    add_size,
    feeds_of,
    in_batches,
    row_sizes,
    run,
    watch_only,
)

AXES_ARE_INPUT = 18
"""The opset from which ReduceMin, ReduceMax and ReduceMean take their axes as an input."""


class ChannelExtremes:
    """The smallest and largest value of each channel, float32 `[channels]`."""

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        """The extremes of a first batch."""
        self.low, self.high = low, high

    def update(self, low: np.ndarray, high: np.ndarray) -> None:
        """Take in those of another batch."""
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    @property
    def magnitude(self) -> np.ndarray:
        """The largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


def channel_extremes(graph: Path, axes: Mapping[str, int], rows: Rows, context: Context) -> dict[str, ChannelExtremes]:
    """What each channel of the values named reaches; `axes` says which axis of a value counts its channels.

    Reduced inside the graph, so that vectors come out. The values' ranks must be known. Raises `CalibrationFailed`.
    """
    if not axes:
        return {}
    if not len(rows):
        raise CalibrationFailed("There are no calibration rows.")
    model = onnx.load(graph)
    index = GraphIndex(model.graph)
    for name in reversed(list(axes)):  # the runtime frees a value the sooner, see find_extremes
        _add_extremes(model, name, axes[name], index.rank(name) or 0)
        add_size(model, name)
    outputs = [name + kind for name in axes for kind in (LOWEST, HIGHEST)]
    watch_only(model, {*outputs, *(name + SIZE for name in axes)})
    runner = session(save(model, context.scratch / "channels.onnx")[0], context.threads)

    def measure(batch: int) -> dict[str, ChannelExtremes]:
        found: dict[str, ChannelExtremes] = {}
        done = 0
        for count, feeds in feeds_of(rows, runner, batch):
            values = run(runner, outputs, feeds, rows.indices[done : done + count])
            for name, low, high in zip(axes, values[::2], values[1::2], strict=True):
                found.setdefault(name, ChannelExtremes(low, high)).update(low, high)
            done += count
            context.progress.advance(done / len(rows), f"{done} of {len(rows)} rows, channels")
        return found

    return in_batches(measure, runner, row_sizes(runner, axes, rows).values(), context)[0]


def _add_extremes(model: ModelProto, value: str, axis: int, rank: int) -> None:
    """Minimum and maximum over all axes but one."""
    others = [place for place in range(rank) if place != axis % rank]
    add_reduction(model, "ReduceMin", value, others, LOWEST)
    add_reduction(model, "ReduceMax", value, others, HIGHEST)


def add_reduction(model: ModelProto, operator: str, value: str, axes: list[int], suffix: str) -> None:
    """Have the graph put out a float32 value reduced over some axes, under its name and the suffix."""
    name, places = value + suffix, f"{value}{suffix}_axes"
    node = helper.make_node(operator, [value], [name], name, keepdims=0)
    if default_opset(model) >= AXES_ARE_INPUT:
        model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), places))
        node.input.append(places)
    else:
        node.attribute.append(helper.make_attribute("axes", axes))
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
