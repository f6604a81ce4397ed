"""Constants computed once: what a graph makes of its initializers alone."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from app.errors import PareError
from worker.engine.onnx_graph.types import Shape
from worker.engine.onnx_import.call import Call
from worker.engine.onnx_import.graph import Graph, Node
from worker.engine.onnx_import.module import folded
from worker.engine.onnx_import.operators import random
from worker.engine.onnx_import.shape_arithmetic import compute
from worker.engine.onnx_import.values import Value
from worker.engine.onnx_import.weights import FLOATING, VIEWS

MOST_ELEMENTS = 1 << 24
"""A constant that grows beyond this, by Expand or Tile, is made when the program runs."""
PARTS = frozenset({"Slice", "Expand", "Tile"})
"""Views that need not be kept as such: the parts of a weight are weights of their own."""
GROWING = frozenset({"ConstantOfShape", "Expand", "Tile", "Range"})


UNKNOWN = -1
"""A size that varies, among sizes that do not."""


def fold_sizes(graph: Graph, shapes: Mapping[str, Shape]) -> None:
    """Replace sizes that the file itself fixes, such as the last axis of a value whose first is the batch.

    `shapes`: of every value that is known, None where a size varies.
    """
    known = dict(shapes)
    for body in graph.walk():
        constants = {**graph.constants, **body.constants}
        sizes: dict[str, np.ndarray] = {}
        kept = []
        for node in body.nodes:
            result = _sizes(node, known, sizes, constants)
            if result is not None:
                sizes[node.outputs[0]] = result
            if result is None or (result == UNKNOWN).any():
                kept.append(node)
            else:
                body.constants[node.outputs[0]] = constants[node.outputs[0]] = result
            _note_shape(node, known, sizes)
        body.nodes = kept


def _sizes(
    node: Node, shapes: Mapping[str, Shape], sizes: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Sizes that a node takes from a shape, picks out of others, or joins."""
    if node.op == "Shape" and node.inputs[0] in shapes:
        given = np.array([UNKNOWN if size is None else size for size in shapes[node.inputs[0]]], np.int64)
        return given[node.attributes.get("start", 0) : node.attributes.get("end")]
    if node.op in ("Gather", "Slice") and node.inputs[0] in sizes:
        places = [constants.get(name) for name in node.inputs[1:]]
        if all(place is not None for place in places):
            return np.asarray(compute(Call(node, [sizes[node.inputs[0]], *places], {})))
    if node.op == "Concat":
        parts = [_part(name, shapes, sizes, constants) for name in node.inputs]
        if all(part is not None and part.ndim == 1 and part.dtype == np.int64 for part in parts):
            return np.concatenate([part for part in parts if part is not None])
    return None


def _part(
    name: str, shapes: Mapping[str, Shape], sizes: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """A part of a list of sizes: known, or so many that are not."""
    if name in constants or name in sizes:
        return constants.get(name, sizes.get(name))
    shape = shapes.get(name)
    return None if shape is None or len(shape) != 1 or shape[0] is None else np.full(shape[0], UNKNOWN, np.int64)


def _note_shape(node: Node, shapes: dict[str, Shape], sizes: Mapping[str, np.ndarray]) -> None:
    """The shape of a result that ONNX could not infer, as it does not compute all sizes."""
    if node.op == "Reshape" and node.inputs[1] in sizes and not (sizes[node.inputs[1]] == 0).any():
        shapes[node.outputs[0]] = tuple(None if size == UNKNOWN else int(size) for size in sizes[node.inputs[1]])
    if node.op == "Transpose" and node.inputs[0] in shapes and "perm" in node.attributes:
        before = shapes[node.inputs[0]]
        shapes[node.outputs[0]] = tuple(before[axis] for axis in node.attributes["perm"])


def fold(graph: Graph, outer: Mapping[str, np.ndarray] | None = None, reads: Counter[str] | None = None) -> None:
    """Replace nodes that read constants alone by their results, and an If with a known condition by its branch.

    A float tensor that is made of one that nothing else reads keeps its name: it is that weight. A view of a weight
    that others read, too, stays a view, so that it stays one weight.
    """
    reads = graph.reads() if reads is None else reads
    known: dict[str, np.ndarray] = {**(outer or {}), **graph.constants}
    kept: list[Node] = []
    renamed: dict[str, str] = {}
    waiting = list(reversed(graph.nodes))
    while waiting:
        node = waiting.pop()
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        for body in node.bodies():
            body.rename_reads(renamed)
        if node.op == "If" and node.inputs[0] in known:
            waiting += reversed(_branch(node, known, graph, renamed))
            continue
        results = _results(node, known, reads)
        if results is None:
            for body in node.bodies():
                fold(body, known, reads)
            kept.append(node)
            continue
        for name, array in zip(node.outputs, results, strict=False):
            if name:
                _keep(graph, known, renamed, reads, (node, name, array))
    graph.nodes = kept
    graph.outputs = [renamed.get(name, name) for name in graph.outputs]


def _keep(
    graph: Graph,
    known: dict[str, np.ndarray],
    renamed: dict[str, str],
    reads: Counter[str],
    result: tuple[Node, str, np.ndarray],
) -> None:
    node, name, array = result
    origin = _weight(node, known, reads)
    if origin is not None and origin in graph.constants and array.dtype.name in FLOATING and name not in graph.outputs:
        graph.constants[origin] = known[origin] = array
        renamed[name] = origin
        reads[origin] = reads[name]
        return
    graph.constants[name] = known[name] = array


def _weight(node: Node, known: Mapping[str, np.ndarray], reads: Counter[str]) -> str | None:
    """The one large constant of which a node makes another, if no other node reads it."""
    large = [name for name in node.inputs if name and known[name].size > 1]
    if node.op == "DequantizeLinear":
        large = [node.inputs[0]]
    return large[0] if len(large) == 1 and reads[large[0]] == 1 else None


def _results(node: Node, known: Mapping[str, np.ndarray], reads: Counter[str]) -> tuple[np.ndarray, ...] | None:
    if not all(name in known for name in node.inputs if name) or any(True for _ in node.bodies()):
        return None
    if node.op in random.NAMES or (not node.inputs and node.op != "ConstantOfShape") or node.op.startswith("Sequence"):
        return None
    if node.op in VIEWS - PARTS and _is_shared_weight(node, known, reads):
        return None
    if node.op in GROWING and _grows(node, known):
        return None
    values: list[Value] = [known[name] if name else None for name in node.inputs]
    try:
        return folded(node, values)
    except PareError:
        return None  # whoever runs the graph meets it again, with the place


def _is_shared_weight(node: Node, known: Mapping[str, np.ndarray], reads: Counter[str]) -> bool:
    array = known[node.inputs[0]]
    return array.dtype.name in FLOATING and array.ndim > 1 and array.size > 1 and reads[node.inputs[0]] > 1


def _grows(node: Node, known: Mapping[str, np.ndarray]) -> bool:
    shape = known[node.inputs[0 if node.op == "ConstantOfShape" else -1]]
    return node.op != "Range" and bool(np.prod(np.abs(shape.astype(np.float64))) > MOST_ELEMENTS)


def _branch(node: Node, known: dict[str, np.ndarray], graph: Graph, renamed: dict[str, str]) -> list[Node]:
    """The nodes of the branch that is taken; its outputs take the names of the node's."""
    body: Graph = node.attributes["then_branch" if known[node.inputs[0]].reshape(-1)[0] else "else_branch"]
    prefix = f"{node.outputs[0]}/"
    made = {name for inner in body.nodes for name in inner.outputs if name} | set(body.constants)
    names = {name: prefix + name for name in made}
    for name, array in body.constants.items():
        graph.constants[names[name]] = known[names[name]] = array
    nodes = [_renamed(inner, names) for inner in body.nodes]
    for outer, name in zip(node.outputs, body.outputs, strict=True):
        nodes.append(
            Node(
                "Identity", node.version, outer, (renamed.get(names.get(name, name), names.get(name, name)),), (outer,)
            )
        )
    return nodes


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    """A node with other names of values, in its bodies, too."""
    attributes = {
        key: _renamed_body(value, names) if isinstance(value, Graph) else value
        for key, value in node.attributes.items()
    }
    return replace(
        node,
        inputs=tuple(names.get(name, name) for name in node.inputs),
        outputs=tuple(names.get(name, name) for name in node.outputs),
        attributes=attributes,
    )


def _renamed_body(body: Graph, names: Mapping[str, str]) -> Graph:
    own = {name for node in body.nodes for name in node.outputs} | set(body.inputs) | set(body.constants)
    outer = {name: new for name, new in names.items() if name not in own}
    return Graph(
        list(body.inputs),
        [outer.get(name, name) for name in body.outputs],
        [_renamed(node, outer) for node in body.nodes],
        dict(body.constants),
    )
