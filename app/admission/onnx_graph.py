"""The graph of an ONNX file: names, order, operators, nesting, and constants that would fill the memory.

Rules: the ONNX IR specification (docs/IR.md): single assignment, nodes in topological order, subgraphs see the
names of the graphs around them.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from app.admission.errors import Broken, TooComplex, TooLarge, UnsupportedOperator
from app.admission.onnx_tensors import External, Tensor, read_tensor
from app.admission.protobuf import FIXED32, LENGTH, VARINT, Layout, Span, Value, Walker

MAX_NODES = 50_000
MAX_DEPTH = 16
MAX_OPERATORS = 1000
MAX_NAME = 1000
MAX_ELEMENTS = 1 << 28
MAX_INTS = 4096
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "com.microsoft"})
DEFAULT_ALIAS = "ai.onnx"
"""Another name of the default domain, ""."""
_DENIED = frozenset({"EPContext", "PythonOp", "PythonOpGrad", "Snpe"})
"""Operators of com.microsoft that run foreign code or read other files."""

_INT, _BYTES = frozenset({VARINT}), frozenset({LENGTH})
_GRAPH: Layout = dict.fromkeys((1, 5, 11, 12, 15), _BYTES)
_NODE: Layout = dict.fromkeys((1, 2, 4, 5, 7, 8), _BYTES)
_FUNCTION: Layout = dict.fromkeys((1, 4, 5, 7, 9, 10, 11, 13), _BYTES)
_ATTRIBUTE: Layout = {
    1: _BYTES,
    2: frozenset({FIXED32}),
    3: _INT,
    5: _BYTES,
    6: _BYTES,
    8: frozenset({VARINT, LENGTH}),
    9: _BYTES,
    10: _BYTES,
    11: _BYTES,
    22: _BYTES,
    23: _BYTES,
}
_NAME, _I, _T, _G, _INTS, _STRINGS, _TENSORS, _GRAPHS, _SPARSE, _SPARSES = 1, 3, 5, 6, 8, 9, 10, 11, 22, 23

_READ = frozenset({"pads", "shape", "value_int", "value_ints", "training_mode", "classlabels_int64s"})
"""The integer attributes that are looked at."""

Key = tuple[str, str, str]
"""Domain, name and overload of a local function."""
Constant = tuple[int, ...] | None
"""The values of a small integer tensor, where they are known."""


@dataclass(slots=True)
class Scope:
    """The names visible at a node. `own` are those that end with the graph being read."""

    visible: dict[str, Constant] = field(default_factory=dict)

    def define(self, names: Iterable[str], constant: Constant = None) -> None:
        """Add names; raises `Broken` if one is taken."""
        for name in names:
            if name in self.visible:
                raise Broken(f"the name {name[:80]!r} is defined twice")
            self.visible[name] = constant


@dataclass(slots=True)
class Node:
    """One node; of its attributes only what decides whether it is harmless."""

    operator: Key
    inputs: list[str]
    outputs: list[str]
    integers: dict[str, tuple[int, ...]]
    tensors: dict[str, Tensor]
    graphs: list[Span]
    texts: int = 0
    """Entries of its longest list of strings."""

    @property
    def name(self) -> str:
        """The qualified name, as it is counted."""
        domain, operator, _ = self.operator
        return operator if domain in {"", DEFAULT_ALIAS} else f"{domain}.{operator}"


@dataclass(slots=True)
class Fields:
    """The parts of a graph that were found in it, still unread."""

    nodes: list[Span] = field(default_factory=list)
    initializers: list[Span] = field(default_factory=list)
    inputs: list[Span] = field(default_factory=list)
    outputs: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class GraphReader:
    """Walks graphs and functions and remembers what they are made of."""

    walker: Walker
    functions: frozenset[Key] = frozenset()
    nodes: int = 0
    parameters: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    domains: set[str] = field(default_factory=set)
    externals: list[External] = field(default_factory=list)
    calls: Counter[Key] = field(default_factory=Counter)
    trains: bool = False
    fixed: set[str] = field(default_factory=set)
    """Values that no input reaches: weights, and what is computed of them."""
    zipped: dict[str, int] = field(default_factory=dict)
    """Outputs of ZipMap, with the number of their classes."""

    def graph(self, span: Span, scope: Scope, depth: int = 0) -> Fields:
        """Check a graph and the graphs inside it; what it defines is visible in `scope` only while it is read."""
        if depth > MAX_DEPTH:
            raise TooComplex(f"The graph nests deeper than {MAX_DEPTH} levels.")
        parts = self._parts(span)
        outside = len(scope.visible)
        initializers = [self._initializer(tensor) for tensor in parts.initializers]
        constants = {tensor.name: tensor.values for tensor in initializers}
        if len(constants) != len(initializers) or "" in constants:
            raise Broken("two initializers have the same name, or one has none")
        for name, values in constants.items():
            scope.define([name], values)
        self.fixed |= constants.keys()
        scope.define(name for name in map(self.value_name, parts.inputs) if name not in constants)
        self.body(parts.nodes, scope, depth)
        for name in map(self.value_name, parts.outputs):
            if name not in scope.visible:
                raise Broken(f"output {name[:80]!r} is not computed by anything")
        while len(scope.visible) > outside:
            scope.visible.popitem()
        return parts

    def body(self, nodes: list[Span], scope: Scope, depth: int) -> None:
        """Check nodes in their order: each may use only what is there before it."""
        for span in nodes:
            node = self._node(span)
            for name in node.inputs:
                if name and name not in scope.visible:
                    raise Broken(f"{node.name[:80]!r} reads {name[:80]!r}, which nothing before it defines")
            self._require_bounded(node, scope)
            self._note(node)
            for graph in node.graphs:
                self.graph(graph, scope, depth + 1)
            scope.define((name for name in node.outputs if name), _constant(node))

    def value_name(self, span: Span) -> str:
        """The name of a ValueInfoProto."""
        names = [self._name(value) for number, value in self.walker.fields(span, {1: _BYTES}) if number == 1]
        if len(names) != 1 or not names[0]:
            raise Broken("an input or output has no name")
        return names[0]

    def function(self, span: Span) -> tuple[Key, "GraphReader"]:
        """Check a local function; its size and calls are in the reader that comes back."""
        inputs, outputs, nodes = [], [], []
        inner = GraphReader(self.walker, self.functions)
        for number, value in self.walker.fields(span, _FUNCTION):
            if number == 4:
                inputs.append(self._name(value))
            elif number == 5:
                outputs.append(self._name(value))
            elif number == 7:
                nodes.append(_span(value))
            elif number == 11:
                inner.attribute(_span(value))
        scope = Scope()
        scope.define(inputs)
        inner.body(nodes, scope, 0)
        if missing := [name for name in outputs if name not in scope.visible]:
            raise Broken(f"a function does not compute its output {missing[0][:80]!r}")
        return self.function_key(span), inner

    def function_key(self, span: Span) -> Key:
        """What nodes call a local function by."""
        fields = {
            number: self._name(value) for number, value in self.walker.fields(span, _FUNCTION) if number in {1, 10, 13}
        }
        return fields.get(10, ""), fields.get(1, ""), fields.get(13, "")

    def _parts(self, span: Span) -> Fields:
        parts = Fields()
        for number, value in self.walker.fields(span, _GRAPH):
            if number == 15:
                raise UnsupportedOperator("The model has sparse initializers.")
            if number == 1:
                parts.nodes.append(_span(value))
            elif number == 5:
                parts.initializers.append(_span(value))
            elif number == 11:
                parts.inputs.append(_span(value))
            elif number == 12:
                parts.outputs.append(_span(value))
        return parts

    def _name(self, value: Value) -> str:
        text = self.walker.text(value)
        if len(text) > MAX_NAME:
            raise Broken(f"a name is longer than {MAX_NAME} characters")
        return text

    def _initializer(self, span: Span) -> Tensor:
        tensor = self._tensor(span)
        self.parameters += tensor.elements
        return tensor

    def _tensor(self, span: Span) -> Tensor:
        tensor = read_tensor(self.walker, span)
        if tensor.external is not None:
            self.externals.append(tensor.external)
        return tensor

    def _node(self, span: Span) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise TooComplex(f"The model has more than {MAX_NODES} nodes.")
        inputs, outputs, attributes = [], [], []
        called: dict[int, str] = {}
        for number, value in self.walker.fields(span, _NODE):
            if number == 1:
                inputs.append(self._name(value))
            elif number == 2:
                outputs.append(self._name(value))
            elif number == 5:
                attributes.append(_span(value))
            else:
                called[number] = self._name(value)
        node = Node((called.get(7, ""), called.get(4, ""), called.get(8, "")), inputs, outputs, {}, {}, [])
        for attribute in attributes:
            self.attribute(attribute, node)
        self._require_known(node)
        return node

    def attribute(self, span: Span, node: Node | None = None) -> None:
        """Check an attribute and note what `node` needs of it."""
        fields: dict[int, list[Value]] = {}
        for number, value in self.walker.fields(span, _ATTRIBUTE):
            fields.setdefault(number, []).append(value)
        if _SPARSE in fields or _SPARSES in fields:
            raise UnsupportedOperator("The model has sparse tensors.")
        if any(len(fields.get(number, ())) > 1 for number in (_NAME, _I, _T, _G)):
            raise Broken("an attribute says the same thing twice")
        name = self._name(fields[_NAME][0]) if _NAME in fields else ""
        tensors = [self._tensor(_span(value)) for number in (_T, _TENSORS) for value in fields.get(number, ())]
        graphs = [_span(value) for number in (_G, _GRAPHS) for value in fields.get(number, ())]
        if node is None:
            if graphs:
                raise UnsupportedOperator("A function has a graph as a default value.")
            return
        node.graphs += graphs
        if tensors:
            node.tensors[name] = tensors[0]
        node.texts = max(node.texts, len(fields.get(_STRINGS, ())))
        if name in _READ:
            numbers = fields.get(_I, []) + fields.get(_INTS, [])
            node.integers[name] = tuple(n for value in numbers for n in self.walker.integers(value, MAX_INTS))

    def _require_known(self, node: Node) -> None:
        domain, operator, _ = node.operator
        if not operator:
            raise Broken("a node has no operator")
        if node.operator in self.functions:
            self.calls[node.operator] += 1
        elif domain not in STANDARD_DOMAINS or operator in _DENIED:
            raise UnsupportedOperator(f"Operator {operator[:80]!r} of domain {domain[:80]!r} is not accepted.")
        else:
            self.domains.add("" if domain == DEFAULT_ALIAS else domain)
        self.operators[node.name] += 1
        if len(self.operators) > MAX_OPERATORS:
            raise TooComplex(f"The model uses more than {MAX_OPERATORS} different operators.")
        if operator == "Constant" and "value" in node.tensors:
            self.parameters += node.tensors["value"].elements

    def _note(self, node: Node) -> None:
        """What a node says about the graph: a batch norm over weights (weight standardization) is no training."""
        if not node.graphs and all(name in self.fixed for name in node.inputs if name):
            self.fixed.update(node.outputs)
        elif node.operator[1] == "BatchNormalization":
            self.trains |= any(node.integers.get("training_mode", ()))
        elif node.operator[:2] == ("ai.onnx.ml", "ZipMap") and node.outputs:
            classes = len(node.integers.get("classlabels_int64s", ())) or node.texts
            if classes:
                self.zipped[node.outputs[0]] = classes

    def _require_bounded(self, node: Node, scope: Scope) -> None:
        """Raise `TooLarge` if constants alone say that the node's output fills the memory."""

        def constant(position: int) -> tuple[int, ...]:
            name = node.inputs[position] if position < len(node.inputs) else ""
            return scope.visible.get(name) or ()

        match node.operator[1]:
            case "ConstantOfShape":
                sizes = constant(0)
            case "Expand" | "Tile":
                sizes = constant(1)
            case "Resize":
                sizes = constant(3)
            case "Pad":
                sizes = (max((*constant(1), *node.integers.get("pads", ())), default=0),)
            case "OneHot":
                sizes = constant(1)
            case "RandomNormal" | "RandomUniform":
                sizes = node.integers.get("shape", ())
            case "Range":
                start, limit, delta = ((*constant(i), 1)[0] for i in range(3))
                sizes = ((limit - start) // (delta or 1),)
            case _:
                return
        if prod(max(size, 1) for size in sizes) > MAX_ELEMENTS:
            raise TooLarge(f"{node.name!r} would make a tensor of shape {list(sizes)}.")


def _constant(node: Node) -> Constant:
    if node.operator[1] != "Constant":
        return None
    if "value" in node.tensors:
        return node.tensors["value"].values
    return node.integers.get("value_ints") or node.integers.get("value_int")


def _span(value: Value) -> Span:
    if isinstance(value, int):
        raise Broken("a message is a number")
    return value
