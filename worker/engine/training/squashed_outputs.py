"""Outputs that are probabilities: found in the graph, and turned back into the scores that losses take.

Most Keras classifiers end in a softmax, and many detectors in a sigmoid. The cross-entropy of such an output would take
the softmax of a softmax, which has hardly a gradient.
"""

from pathlib import Path
from typing import Literal

import onnx
import torch
from torch import Tensor, fx

from app.spec.scores import class_axis
from worker.engine.onnx_graph.index import softmax_axis
from worker.engine.torch_program.program import Program

Squash = Literal["softmax", "sigmoid"]
EPSILON = 1e-7
"""Added to probabilities before their logarithm: a float32 softmax rounds small ones to 0."""
ATEN = torch.ops.aten
SOFTMAX = (ATEN.softmax.int, ATEN._softmax.default)  # noqa: SLF001  # an operator's name
PASSING = (ATEN.clone.default, ATEN.contiguous.default, ATEN.alias.default, ATEN.detach.default, ATEN.dropout.default)
"""Operators that hand their first argument on as it is."""


def squashed_outputs(source: Program | Path) -> dict[str, Squash]:
    """The outputs of a program or an ONNX file that are a softmax over the classes, or a sigmoid, by name."""
    return _of_program(source) if isinstance(source, Program) else _of_onnx(source)


def as_logits(output: Tensor, squash: Squash | None) -> Tensor:
    """Scores, float32, whose softmax or sigmoid the output is; the output itself where `squash` is None."""
    output = output.float()
    if squash == "softmax":
        return (output + EPSILON).log()
    if squash == "sigmoid":
        return (output + EPSILON).log() - (1 - output + EPSILON).log()
    return output


def _of_program(program: Program) -> dict[str, Squash]:
    nodes = {node.name: node for node in program.exported.graph.nodes}
    ends = [nodes[name] for name in program.exported.graph_signature.user_outputs if name in nodes]
    squashes = {tensor.name: _squash(node) for tensor, node in zip(program.signature.outputs, ends, strict=False)}
    return {name: squash for name, squash in squashes.items() if squash is not None}


def _squash(node: fx.Node) -> Squash | None:
    while node.target in PASSING:
        node = node.args[0]  # type: ignore[assignment]  # these take a tensor first
    if node.target is ATEN.sigmoid.default:
        return "sigmoid"
    axes = node.meta["val"].ndim if node.target in SOFTMAX else 0
    axis = node.args[1] if axes else None
    return "softmax" if isinstance(axis, int) and axis % axes == class_axis(axes) else None


def _of_onnx(graph: Path) -> dict[str, Squash]:
    model = onnx.load(graph, load_external_data=False)
    made = {output: node for node in model.graph.node for output in node.output}
    squashes: dict[str, Squash] = {}
    for output in model.graph.output:
        node, axes = made.get(output.name), len(output.type.tensor_type.shape.dim)
        if node is not None and node.op_type == "Sigmoid":
            squashes[output.name] = "sigmoid"
        elif node is not None and node.op_type == "Softmax" and axes and softmax_axis(node) % axes == class_axis(axes):
            squashes[output.name] = "softmax"
    return squashes
