"""The names of the contract in an ONNX graph, where values, weights, inputs and outputs share one space of names.

The exporter names values after operators ("embedding", "linear", "val_0") and weights after parameters ("weight"), and
does not look whether an input or output is called so. Exported under names that nobody has, the graph is renamed after.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from onnx import GraphProto, NodeProto
from torch import fx

from app.spec.signature import TensorSpec
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_graph.file import graphs


def require_distinct(tensors: Sequence[TensorSpec]) -> None:
    """Raise `ExportFailed` if two inputs or outputs have one name, as an input has that is returned as it came."""
    count = Counter(tensor.name for tensor in tensors)
    twice = [name for name, times in count.items() if times > 1]
    if twice:
        raise ExportFailed(
            f"More than one input or output is called {twice[0]}, which ONNX cannot express.",
            remedy="Return each tensor once, and inputs as a copy (x.clone()), and export the program again.",
        )


def placeholders(tensors: Sequence[TensorSpec], role: str) -> list[str]:
    """Names for the time of the export."""
    return [f"contract.{role}.{number}" for number in range(len(tensors))]


def give_names(graph: GraphProto, translated: fx.Graph, wanted: dict[str, str]) -> None:
    """Rename values of the graph; one that has a wanted name already makes room, in `translated`, too.

    `wanted` maps the names in the graph to those of the contract. `translated` is the program's graph, whose nodes are
    called like the values that they became.
    """
    nodes = {node.name: node for node in translated.nodes}
    used = {*_names(graph), *nodes, *wanted.values()}
    renamed = dict(wanted)
    for name in sorted(set(wanted.values()) & {*_names(graph)} - wanted.keys()):
        renamed[name] = next(other for number in range(1, len(used) + 2) if (other := f"{name}_{number}") not in used)
        used.add(renamed[name])
        if name in nodes:
            nodes[name].name = renamed[name]
    for inner in graphs(graph):
        for node in inner.node:
            _rename(node, renamed)
        for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
            value.name = renamed.get(value.name, value.name)


def _names(graph: GraphProto) -> Iterator[str]:
    for inner in graphs(graph):
        yield from (value.name for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer))
        for node in inner.node:
            yield from (*node.input, *node.output)


def _rename(node: NodeProto, renamed: dict[str, str]) -> None:
    node.input[:] = [renamed.get(name, name) for name in node.input]
    node.output[:] = [renamed.get(name, name) for name in node.output]
