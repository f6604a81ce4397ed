"""Clamps that codes replace: a value's 8-bit codes end where a ReLU or Clip would cut."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

CLAMPS = frozenset({"Relu", "Clip"})


def bounds_of(node: NodeProto, constants: Mapping[str, TensorProto]) -> tuple[float, float] | None:
    """The lowest and the highest value that a ReLU or Clip lets pass; None if they are computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    ends = [-np.inf, np.inf]
    for place, name in enumerate(node.input[1:3]):
        if name:
            if name not in constants:
                return None
            ends[place] = float(numpy_helper.to_array(constants[name]).reshape(-1)[0])
    return ends[0], ends[1]


def may_saturate(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether codes can end at the clamp's bounds: they always reach to zero, which must lie within."""
    bounds = bounds_of(node, constants)
    return bounds is not None and bounds[0] <= 0 <= bounds[1] and bounds[0] < bounds[1]


def clamped_by(graph: GraphProto, nodes: frozenset[str]) -> dict[str, str]:
    """Values that only a quantized ReLU or Clip reads, with its output, whose range they take.

    Of clamps in a row that is the last one's. The quantizer does the same (`adjust_tensor_ranges`), since saturation
    replaces the clamp. Not watching these values lets the runtime fuse the clamp into the convolution while it
    calibrates.
    """
    reads = Counter(_reads(graph))
    clamped: dict[str, str] = {}
    for node in reversed(graph.node):  # the last clamp of a row first
        if node.op_type in CLAMPS and node.name in nodes and reads[node.input[0]] == 1:
            clamped[node.input[0]] = clamped.get(node.output[0], node.output[0])
    return clamped


def _reads(graph: GraphProto) -> Iterator[str]:
    """Names of what is read, once for each time, control-flow bodies included; an output is read, too."""
    yield from (output.name for output in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _reads(body)
