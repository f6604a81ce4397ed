"""Which outputs are scores of classes, and along which axis: only of those does the highest value mean an answer.

The model's own graph tells: a softmax, a name, or a linear layer with a bias at the end. Boxes, embeddings and
regressions end in linear layers too; they are known by their names, by what follows the layer, or by labels.
"""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto

from app.spec.scores import TOKEN_AXES, class_axis
from worker.engine.onnx_graph.index import softmax_axis

SCORES = re.compile(r"logit|score|prob|softmax|classif|categor|(?<![a-z])(cls|class|classes|label|labels|lm)(?![a-z])")
VALUES = re.compile(
    r"box|embed|hidden|feat|pool|depth|landmark|keypoint|offset|coord|regress|vector|state|cache|quality|distance"
    r"|(?<![a-z])(emb|reg|loc|kpt|pose|proj|projection|pts|points|mu|mean|std|delta|deltas|anchor|anchors|value|values"
    r"|angle|rotation|translation|cls_token)(?![a-z])"
)
PASSING = frozenset({"Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear"})
"""Operators that leave every value where it is, and as large."""
BOX = 4
"""Columns of one output of several that, without a name, is rather a box than scores."""
SUM_TOLERANCE = 1e-2
"""How far from one the sum of probabilities may lie: float16 rounds a thousand of them."""


def class_axes(graph: Path, regressed: Collection[str] = (), classified: Collection[str] = ()) -> dict[str, int]:
    """The axis that numbers the classes, by output, of the outputs of an ONNX file that are scores.

    `classified` are outputs that labels number the classes of, `regressed` those that labels are values of.
    """
    return axes_of(onnx.load(graph, load_external_data=False).graph, regressed, classified)


def axes_of(graph: GraphProto, regressed: Collection[str] = (), classified: Collection[str] = ()) -> dict[str, int]:
    """As `class_axes`, of a graph that is loaded; its weights are not read."""
    ends = _Ends(graph)
    by_output: dict[str, int | None] = {}
    for output in graph.output:
        axes = len(output.type.tensor_type.shape.dim)
        if output.name in classified and axes >= 2:
            by_output[output.name] = class_axis(axes)
        elif output.name not in regressed and axes >= 2:
            by_output[output.name] = ends.class_axis(output.name, axes)
    return {name: axis for name, axis in by_output.items() if axis is not None}


def probability_axis(values: np.ndarray) -> int | None:
    """The axis, from 1, of two or more values that along it are never negative and sum to one; None without one."""
    if values.dtype.kind != "f" or values.ndim < 2 or not values.size or not np.isfinite(values).all():
        return None
    if values.min() < 0 or values.max() > 1 + SUM_TOLERANCE:
        return None
    for axis in (class_axis(values.ndim), *range(values.ndim - 1, 0, -1)):
        if values.shape[axis] > 1 and np.allclose(values.sum(axis=axis, dtype=np.float64), 1, atol=SUM_TOLERANCE):
            return axis
    return None


class _Ends:
    """What the outputs of a graph come from."""

    def __init__(self, graph: GraphProto) -> None:
        self._made = {output: node for node in graph.node for output in node.output}
        self._constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self._outputs = len(graph.output)
        self._channels = {_channels(value) for value in graph.input}

    def class_axis(self, output: str, axes: int) -> int | None:
        """The axis of the classes of an output of so many axes; None unless it is scores."""
        node = self._passed(output)
        if node is not None and node.op_type in {"Softmax", "LogSoftmax"}:
            return softmax_axis(node) % axes
        called = self._called(output, node)
        if called == "values" or axes > 5:
            return None
        if called == "scores":
            return class_axis(axes)
        return self._linear_axis(node, axes)

    def _passed(self, output: str) -> NodeProto | None:
        node = self._made.get(output)
        while node is not None and node.op_type in PASSING and node.input:
            node = self._made.get(node.input[0])
        return node

    def _called(self, output: str, node: NodeProto | None) -> str | None:
        """What the output's name says, else that of the layer it comes from."""
        layer = self._layer(node)
        names = [output, *(name for name in layer.input[1:] if name in self._constants)] if layer else [output]
        for name in names:
            words = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z]+", "_", name).lower()
            if SCORES.search(words.replace("_", " ")) and "cls token" not in words.replace("_", " "):
                return "scores"
            if VALUES.search(words.replace("_", " ")):
                return "values"
        return None

    def _layer(self, node: NodeProto | None) -> NodeProto | None:
        """The product that a node is, or adds a constant vector to."""
        if node is not None and node.op_type == "Add" and any(name in self._constants for name in node.input):
            node = next((self._made[name] for name in node.input if name in self._made), None)
        return node if node is not None and node.op_type in {"MatMul", "Gemm", "Conv"} else None

    def _linear_axis(self, node: NodeProto | None, axes: int) -> int | None:
        layer = self._layer(node)
        if layer is None or node is None or len(layer.input) < 2:
            return None
        if layer.op_type == "Conv":
            dims = self._constants.get(layer.input[1], ())
            pointwise = len(dims) > 2 and set(dims[2:]) == {1}
            return 1 if pointwise and axes >= TOKEN_AXES and dims[0] > 1 and dims[0] not in self._channels else None
        dims = self._constants.get(layer.input[1], ())
        if len(dims) != 2:
            return None
        turned = layer.op_type == "Gemm" and any(entry.name == "transB" and entry.i for entry in layer.attribute)
        entering, classes = (dims[1], dims[0]) if turned else dims
        biased = node is not layer or len(layer.input) > 2
        if classes < 2 or (classes == BOX and self._outputs > 1) or axes > TOKEN_AXES:
            return None
        return axes - 1 if biased or classes > entering else None


def _channels(value: onnx.ValueInfoProto) -> int | None:
    """The size of the second axis of pictures, None of anything else."""
    shape = value.type.tensor_type.shape.dim
    return shape[1].dim_value if len(shape) >= TOKEN_AXES + 1 else None
