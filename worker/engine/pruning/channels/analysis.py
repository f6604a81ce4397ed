"""Walks the graph of a program once and finds out which channels of which parameters depend on each other.

DepGraph (Fang et al. 2023, arXiv:2301.12900) on the operators of an exported graph instead of on modules: every
position along every dimension of every value carries a label, and the rules of the operators merge their classes.
"""

import operator
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx

from worker.engine.pruning.channels.call import Call, NoRule, Splits, Value, frozen_like
from worker.engine.pruning.channels.channel_classes import Classes, Dims, Labels, frozen
from worker.engine.pruning.channels.groups import Group, find_groups
from worker.engine.pruning.channels.reasons import NO_RULE, OUTPUT, Producer, Reason, Reasons
from worker.engine.pruning.channels.rules.table import RULES
from worker.engine.torch_program.fold_weights import FoldedWeight, with_folded_weights
from worker.engine.torch_program.operators import operator_name
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.shapes import Shapes, shapes_of


@dataclass(frozen=True)
class Channels:
    """What was found in a program."""

    program: Program
    """The one that was given, but for the weights that were folded."""
    folded: tuple[FoldedWeight, ...]
    """Weights that the given program computes."""
    module: fx.GraphModule
    """The graph that was walked; it is not changed."""
    shapes: Mapping[fx.Node, Shapes]
    classes: Classes
    calls: Mapping[fx.Node, Call]
    """Every call of an operator that has a rule."""
    labels: Mapping[fx.Node, Value]
    """By node: the class of every position along every dimension of its value."""
    parameters: Mapping[str, Dims]
    """By the name of each parameter or buffer: the class of every position along every dimension."""
    aliases: Mapping[str, tuple[str, ...]]
    """All the names of each parameter, its own included: tied weights have several."""
    scales: frozenset[str]
    """Parameters that scale the channels of a batch norm."""
    groups: tuple[Group, ...]
    """What can be removed, in the order of the graph."""
    frozen_operators: dict[str, int]
    """How often each operator without a rule kept channels whole."""
    reasons: tuple[Reason, ...]
    """What kept which layers' channels whole."""

    def parameter(self, name: str) -> Tensor:
        """The values of a parameter or buffer."""
        tensor: Tensor = operator.attrgetter(name)(self.module)
        return tensor.detach()


def analyse(program: Program) -> Channels:
    """Find the groups of channels of a program. Nothing is run; a vision transformer takes about a second.

    Where all that a reshape cut off turned out to stay, another cut is tried there and wherever sizes are cut alike: of
    two or three heads, say, which look like a stack of projections. Weights that are computed from other parameters are
    folded first. Raises `ReexportFailed` if that fails.
    """
    program, folded = with_folded_weights(program)
    module = program.graph_module()
    shapes = shapes_of(program, module)
    walk = _walked(module, shapes)
    channels = _channels(program, module, walk)
    in_vain = {sizes for _, sizes, labels in walk.splits.chosen if not walk.classes.removable(labels)}
    if in_vain:
        again = frozenset(node for node, sizes, _ in walk.splits.chosen if sizes in in_vain)
        other = _channels(program, module, _walked(module, shapes, again))
        channels = max(channels, other, key=_removable_elements)
    return replace(channels, folded=folded)


def _walked(
    module: fx.GraphModule, shapes: Mapping[fx.Node, Shapes], second_choice: frozenset[fx.Node] = frozenset()
) -> "_Walk":
    walk = _Walk(module, shapes, second_choice)
    for node in module.graph.nodes:
        walk.visit(node)
    return walk


def _removable_elements(channels: Channels) -> int:
    return sum(group.parameters for group in channels.groups if len(group.classes) > 1)


def _channels(program: Program, module: fx.GraphModule, walk: "_Walk") -> Channels:
    parameters = {name: tuple(walk.classes.roots(labels) for labels in dims) for name, dims in walk.parameters.items()}
    return Channels(
        program=program,
        folded=(),
        module=module,
        shapes=walk.shapes,
        classes=walk.classes,
        calls=walk.calls,
        labels={node: walk.rooted(value) for node, value in walk.known.items()},
        parameters=parameters,
        aliases=walk.aliases(),
        scales=frozenset(walk.scales),
        groups=find_groups(
            parameters,
            [(producer.layer, walk.classes.roots(producer.labels)) for producer in walk.producers],
            [walk.classes.roots(labels) for labels in walk.heads],
        ),
        frozen_operators=dict(walk.reasons.without_rule),
        reasons=walk.reasons.listed(),
    )


class _Walk:
    """The labels found so far."""

    def __init__(
        self, module: fx.GraphModule, shapes: Mapping[fx.Node, Shapes], second_choice: frozenset[fx.Node]
    ) -> None:
        self.shapes, self.classes = shapes, Classes()
        self.known: dict[fx.Node, Value] = {}
        self.calls: dict[fx.Node, Call] = {}
        self.parameters: dict[str, Dims] = {}
        self.producers: list[Producer] = []
        self.scales: set[str] = set()
        self.reasons = Reasons(self.classes, self.producers)
        self.heads: list[Labels] = []
        self.splits = Splits(second_choice, [])
        self._module = module
        self._names = _names_by_tensor(module)
        self._shared = _views(module, self._names)

    def visit(self, node: fx.Node) -> None:
        """Label the value of a node."""
        if node.op == "get_attr":
            self.known[node] = self._parameter(node)
        elif node.op == "call_function":
            self.known[node] = self._call(node)
        elif node.op == "output":
            self._freeze(node, OUTPUT)
        else:
            self.known[node] = frozen_like(self.shapes[node])

    def aliases(self) -> dict[str, tuple[str, ...]]:
        """All names of each parameter that the graph uses."""
        return {names[0]: tuple(names) for names in self._names.values() if names[0] in self.parameters}

    def rooted(self, value: Value) -> Value:
        """Classes for labels."""
        if isinstance(value, tuple):
            return tuple(self.classes.roots(labels) for labels in value)
        return None if value is None else [self.rooted(labels) for labels in value]

    def _parameter(self, node: fx.Node) -> Value:
        tensor = operator.attrgetter(str(node.target))(self._module)
        if not isinstance(tensor, Tensor):
            return None
        name = self._names[id(tensor)][0]
        if name not in self.parameters:
            free = tensor.is_floating_point() and id(tensor) not in self._shared
            self.parameters[name] = tuple(
                self.classes.new(size) if free and size > 1 else frozen(size) for size in tensor.shape
            )
        return self.parameters[name]

    def _call(self, node: fx.Node) -> Value:
        if node.target is operator.getitem:
            values = self.known.get(node.args[0])  # type: ignore[arg-type]  # its first argument is a node
            return values[node.args[1]] if isinstance(values, list) else None  # type: ignore[index]
        if not _holds_tensor(self.shapes[node]):
            return None  # a size, an assertion: they follow the tensors
        name = operator_name(node)
        call = Call(
            node,
            self.classes,
            self.known,
            self.shapes,
            self.producers,
            self.scales,
            self.reasons,
            self.heads,
            self.splits,
        )
        try:
            labels = RULES[name](call)
        except (KeyError, NoRule):
            self._freeze(node, NO_RULE)
            return frozen_like(self.shapes[node])
        self.calls[node] = call
        return labels

    def _freeze(self, node: fx.Node, why: str) -> None:
        dims = [labels for read in node.all_input_nodes for labels in _dims_in(self.known.get(read))]
        self.reasons.freeze(operator_name(node), why, *dims)


def _dims_in(value: Value) -> list[Labels]:
    """The labels of all dimensions of all tensors in a value."""
    if isinstance(value, tuple):
        return list(value)
    return [labels for item in value or () for labels in _dims_in(item)]


def _holds_tensor(shapes: Shapes) -> bool:
    return isinstance(shapes, tuple) or (isinstance(shapes, list) and any(_holds_tensor(entry) for entry in shapes))


def _names_by_tensor(module: fx.GraphModule) -> dict[int, list[str]]:
    """Every name of every tensor a graph module holds, by the tensor's identity; the first is its own."""
    names: dict[int, list[str]] = defaultdict(list)
    used = [str(node.target) for node in module.graph.nodes if node.op == "get_attr"]
    known = [name for name, _ in (*_named(module.named_parameters), *_named(module.named_buffers))]
    for name in dict.fromkeys((*used, *known)):
        tensor = operator.attrgetter(name)(module)
        if isinstance(tensor, Tensor):
            names[id(tensor)].append(name)
    return dict(names)


def _named(listing: Any) -> list[tuple[str, Tensor]]:
    return list(listing(remove_duplicate=False))


def _views(module: fx.GraphModule, names: Mapping[int, list[str]]) -> frozenset[int]:
    """The tensors, by identity, of which another tensor of the module shares the memory."""
    storages: dict[int, list[int]] = defaultdict(list)
    for identity, of in names.items():
        storages[operator.attrgetter(of[0])(module).untyped_storage().data_ptr()].append(identity)
    return frozenset(
        tensor for storage, tensors in storages.items() if storage and len(tensors) > 1 for tensor in tensors
    )
