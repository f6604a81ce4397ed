"""The mean of what meets each weight, from which targets correct biases for the weights that they rounded."""

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.index import GraphIndex, attributes
from worker.engine.onnx_graph.layers import LAYERS, has_fixed_outputs, shift_behind, weight_of
from worker.engine.onnx_graph.sessions import session
from worker.engine.quantization.calibration import SIZE, add_size, feeds_of, in_batches, row_sizes, run, watch_only
from worker.engine.quantization.rescaling.channels import add_reduction

MEAN = "/pare_mean"


def input_means(graph: Path, nodes: Iterable[str], rows: Rows, context: Context) -> dict[str, np.ndarray]:
    """The mean of what meets each weight, float64 `[groups, inputs of a group, kernel]`, by the node's name.

    For a convolution that is the mean patch, padding included. Only nodes whose bias can be corrected have one.
    Raises `CalibrationFailed`.
    """
    model = onnx.load(graph)
    index = GraphIndex(model.graph)
    chosen = set(nodes)
    layers = [node for node in model.graph.node if node.name in chosen and _is_correctable(index, node)]
    if not layers:
        return {}
    values = list(dict.fromkeys(node.input[0] for node in layers))
    kept = {node.input[0] for node in layers if node.op_type == "Conv"}
    for name in reversed(values):  # the runtime frees a value the sooner, see find_extremes
        axes = [0] if name in kept else list(range((index.rank(name) or 1) - 1))
        add_reduction(model, "ReduceMean", name, axes, MEAN)
        add_size(model, name)
    watch_only(model, {name + kind for name in values for kind in (MEAN, SIZE)})
    runner = session(save(model, context.scratch / "means.onnx")[0], context.threads)

    def measure(batch: int) -> dict[str, np.ndarray]:
        sums = {node.name: np.zeros(1) for node in layers}
        done = 0
        for count, feeds in feeds_of(rows, runner, batch):
            means = run(runner, [name + MEAN for name in values], feeds, rows.indices[done : done + count])
            of = dict(zip(values, means, strict=True))
            for node in layers:
                sums[node.name] = sums[node.name] + count * _mean_patch(index, node, of[node.input[0]])
            done += count
            context.progress.advance(done / len(rows), f"{done} of {len(rows)} rows, means")
        return {name: total / len(rows) for name, total in sums.items()}

    return in_batches(measure, runner, row_sizes(runner, values, rows).values(), context)[0]


def _is_correctable(index: GraphIndex, node: NodeProto) -> bool:
    if node.op_type not in LAYERS or index.rank(node.input[0]) is None or not index.is_float(node.input[1]):
        return False
    if node.op_type == "MatMul":
        return len(index.constants[node.input[1]].dims) == 2 and shift_behind(index, node.output[0]) is not None
    return attributes(node).get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and has_fixed_outputs(index, node)


def _mean_patch(index: GraphIndex, node: NodeProto, mean: np.ndarray) -> np.ndarray:
    """The mean of what meets a layer's weight, from the mean over rows of its input `[channels, *space]`."""
    groups = weight_of(index, node).shape[0]
    if node.op_type != "Conv":
        return mean.astype(np.float64).reshape(-1, mean.shape[-1]).mean(0).reshape(1, -1, 1)
    taps = list(_taps(mean.astype(np.float64), np.array(index.array(node.input[1]).shape[2:]), attributes(node)))
    means = np.stack([tap.mean(axis=tuple(range(1, tap.ndim))) for tap in taps], axis=1)
    return means.reshape(groups, -1, len(taps))


def _taps(mean: np.ndarray, kernel: np.ndarray, given: dict[str, Any]) -> Iterator[np.ndarray]:
    """What each place of a kernel meets as it moves over `mean` `[channels, *space]`, in the kernel's order."""
    strides, dilations = (np.array(given.get(name, np.ones(len(kernel), int))) for name in ("strides", "dilations"))
    pads = np.array(given.get("pads", np.zeros(2 * len(kernel), int))).reshape(2, -1)
    padded = np.pad(mean, [(0, 0), *pads.T])
    reach = np.array(padded.shape[1:]) - dilations * (kernel - 1)
    for place in product(*map(range, kernel)):
        starts = dilations * place
        window = [slice(start, start + size, step) for start, size, step in zip(starts, reach, strides, strict=True)]
        yield padded[(slice(None), *window)]
