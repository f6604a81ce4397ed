"""Weights that a program computes from other parameters, folded into parameters of their own.

Weight norm, spectral norm and weight standardization do so. What a weight is computed from says nothing about channels.
"""

import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from worker.engine.torch_program.operators import operator_name, parameters_of
from worker.engine.torch_program.program import Program

WEIGHTS: Mapping[str, str] = {
    "linear": "weight",
    **{f"conv{axes}d": "weight" for axes in (1, 2, 3)},
    **{f"conv_transpose{axes}d": "weight" for axes in (1, 2, 3)},
    "matmul": "other",
    "mm": "mat2",
    "addmm": "mat2",
    "embedding": "weight",
}
"""By operator: what it names its weight."""
MOVED = frozenset({"t", "transpose", "permute", "view", "reshape", "contiguous", "numpy_T", "mT", "unsqueeze"})
"""What leaves a weight the parameter that it is."""
CAST = frozenset({"to", "_to_copy", "detach", "alias", "clone"})
"""What alone is no reason to fold: a weight that is stored in half precision stays so."""


@dataclass(frozen=True)
class FoldedWeight:
    """A parameter that was computed before."""

    name: str
    sources: tuple[str, ...]
    """The parameters and buffers that it was computed from."""


def with_folded_weights(program: Program) -> tuple[Program, tuple[FoldedWeight, ...]]:
    """The program with a parameter in place of each computed weight; itself if there is none. Raises `ReexportFailed`.

    Parameters that nothing else reads are dropped.
    """
    if not any(_computed_weights(program.exported.module(check_guards=False))):
        return program, ()
    module = program.graph_module()
    computed = list(dict.fromkeys(_computed_weights(module)))
    read = {weight: tuple(dict.fromkeys(str(node.target) for node in _read_by(weight))) for weight in computed}
    with torch.no_grad():
        values = {weight: _value(module, weight).detach().clone().contiguous() for weight in computed}
    places = {weight: _replaced(weight) for weight in computed}
    left = {str(node.target) for node in module.graph.find_nodes(op="get_attr") if node not in places.values()}
    for name in {name for sources in read.values() for name in sources} - left:
        path, _, attribute = name.rpartition(".")
        delattr(module.get_submodule(path), attribute)
    folded = []
    for weight, place in places.items():
        place.target = _put(module, read[weight][0], values[weight])
        folded.append(FoldedWeight(str(place.target), read[weight]))
    module.delete_all_unused_submodules()
    module.recompile()
    return program.rebuilt(module), tuple(folded)


def _computed_weights(module: fx.GraphModule) -> Iterator[fx.Node]:
    for node in module.graph.nodes:
        name = operator_name(node) if node.op == "call_function" else ""
        if name not in WEIGHTS:
            continue
        places = [parameter.name for parameter in parameters_of(node)]
        place = places.index(WEIGHTS[name])
        weight = node.args[place] if place < len(node.args) else None
        while isinstance(weight, fx.Node) and _calls(weight, MOVED):
            weight = weight.args[0]
        if isinstance(weight, fx.Node) and weight.op == "call_function" and _is_folding(weight):
            yield weight


def _is_folding(weight: fx.Node) -> bool:
    """Whether it depends on parameters alone, by more than a cast."""
    inner: Any = weight
    while _calls(inner, MOVED | CAST):
        inner = inner.args[0]
    sources = _read_by(weight)
    return inner.op == "call_function" and bool(sources) and all(node.op == "get_attr" for node in sources)


def _calls(node: object, names: frozenset[str]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and operator_name(node) in names


def _read_by(weight: fx.Node) -> list[fx.Node]:
    """What the graph around it gives to the computation of a value: parameters, inputs."""
    return [node for node in _computation(weight) if node.op != "call_function"]


def _computation(weight: fx.Node) -> list[fx.Node]:
    """Every node that a value depends on, itself first."""
    waiting, seen = [weight], {weight: None}
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node not in seen:
                seen[node] = None
                waiting.append(node)
    return list(seen)


def _value(module: fx.GraphModule, node: fx.Node) -> Any:
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(module)
    arguments = fx.node.map_arg((node.args, node.kwargs), lambda given: _value(module, given))
    return node.target(*arguments[0], **arguments[1])  # type: ignore[operator]


def _replaced(weight: fx.Node) -> fx.Node:
    with weight.graph.inserting_before(weight):
        place = weight.graph.create_node("get_attr", "to_be_named")
    place.meta["val"] = weight.meta["val"]
    weight.replace_all_uses_with(place)
    computation = set(_computation(weight))
    for node in reversed(list(weight.graph.nodes)):
        if node in computation and not node.users:
            weight.graph.erase_node(node)
    return place


def _put(module: fx.GraphModule, source: str, value: Tensor) -> str:
    """Make a value a parameter beside its source, under the name of the weight if that is free."""
    name = re.sub(r"\.?parametrizations\.(\w+)\.original\d*$", r".\1", source).removeprefix(".")
    name = re.sub(r"(weight)_[gv]$", r"\1", name)
    path, _, attribute = name.rpartition(".")
    owner = module.get_submodule(path)
    while hasattr(owner, attribute):
        attribute += "_folded"
    owner.register_parameter(attribute, torch.nn.Parameter(value))
    return f"{path}.{attribute}" if path else attribute
