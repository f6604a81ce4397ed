"""The names of the contract in an ONNX graph, where values, weights, inputs and outputs share one space of names.

The exporter names values after operators ("embedding", "linear", "val_0") and weights after parameters ("weight"), and
does not look whether an input or output is called so. Exported under names that nobody has, the graph is renamed after.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from onnx import GraphProto
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
    rename_values(graph, renamed)


def rename_values(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    """Give values other names wherever they occur, inside of control-flow nodes, too."""
    for inner in graphs(graph):
        for node in inner.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
        for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
            value.name = renamed.get(value.name, value.name)


def taken_names(graph: GraphProto) -> set[str]:
    """What a new value or node must not be called."""
    return {*_names(graph), *(node.name for inner in graphs(graph) for node in inner.node)}


def free_name(wanted: str, taken: set[str]) -> str:
    """The wanted name, with a number where it is taken; it is taken from now on."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}/{number}"
    taken.add(name)
    return name


def free_prefix(wanted: str, taken: set[str]) -> str:
    """The wanted name, with a number where something is called "name/...": what begins so is free from now on."""
    prefix, number = wanted, 0
    while any(name.startswith(f"{prefix}/") for name in taken):
        number += 1
        prefix = f"{wanted}/{number}"
    taken.add(f"{prefix}/")
    return prefix


def _names(graph: GraphProto) -> Iterator[str]:
    for inner in graphs(graph):
        yield from (value.name for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer))
        for node in inner.node:
            yield from (*node.input, *node.output)
