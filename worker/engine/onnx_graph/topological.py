"""Nodes by what they read: in the order that the ONNX format demands, and those alone that are of use."""

import heapq
from collections.abc import Iterator

from onnx import GraphProto, NodeProto

from worker.engine.onnx_graph.file import graphs


def sort_nodes(graph: GraphProto) -> None:
    """Put the nodes into topological order, as near to their present order as that allows.

    ONNX Runtime's quantizer appends its nodes at the end, and sorts only in `ONNXModel.save_model_to_file`. Nodes
    inside of control-flow bodies stay where they are; what they read from outside counts as read by their node.
    """
    nodes = list(graph.node)
    maker = {output: place for place, node in enumerate(nodes) for output in node.output if output}
    needs = [{maker[name] for name in _reads(node) if name in maker} - {place} for place, node in enumerate(nodes)]
    readers: list[list[int]] = [[] for _ in nodes]
    for place, makers in enumerate(needs):
        for writer in makers:
            readers[writer].append(place)
    missing = [len(makers) for makers in needs]
    ready = [place for place, count in enumerate(missing) if not count]
    order = []
    while ready:
        place = heapq.heappop(ready)
        order.append(nodes[place])
        for reader in readers[place]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) != len(nodes):
        raise ValueError("the graph has a cycle")
    graph.ClearField("node")
    graph.node.extend(order)


def keep_ancestors(graph: GraphProto) -> None:
    """Drop the nodes on which no output of the graph depends; the nodes are in topological order."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(_reads(node))
            kept.append(node)
    graph.ClearField("node")
    graph.node.extend(reversed(kept))


def _reads(node: NodeProto) -> Iterator[str]:
    """The values a node reads, those that its bodies read included."""
    yield from node.input
    for attribute in node.attribute:
        for body in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for graph in graphs(body):
                for inner in graph.node:
                    yield from inner.input
