"""One call of an operator in the graph, with its arguments by the names in the operator's schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from worker.engine.pruning.channels.channel_classes import Classes, Dims, Labels, frozen
from worker.engine.pruning.channels.reasons import Producer, Reasons
from worker.engine.torch_program.operators import operator_name, parameters_of
from worker.engine.torch_program.shapes import Shape, Shapes

Value = Dims | list[Any] | None
"""Labels of a tensor, of several, of none."""

RESHAPES = frozenset({"t", "transpose", "permute", "view", "reshape", "contiguous", "numpy_T", "mT", "unsqueeze"})
"""What a weight may pass on its way into a product and still be a weight."""


class NoRule(Exception):
    """This form of the operator is not understood: what it touches is frozen."""


@dataclass(frozen=True)
class Splits:
    """Dimensions that reshapes cut into several parts, of which channels can go from one only."""

    second_choice: frozenset[fx.Node]
    """Reshapes that take the second of the parts that come into question."""
    chosen: list[tuple[fx.Node, Shape, Labels]]
    """Each reshape that had a choice, the sizes of the parts, and the part that it took."""


@dataclass(frozen=True)
class Call:
    """A call, and what is known about the values it reads."""

    node: fx.Node
    classes: Classes
    known: Mapping[fx.Node, Value]
    shapes: Mapping[fx.Node, Shapes]
    producers: list[Producer]
    """Collected over the whole graph."""
    scales: set[str]
    """Parameters that scale channels of a batch norm, collected over the whole graph."""
    reasons: Reasons
    """What keeps channels whole, collected over the whole graph."""
    heads: list[Labels]
    """Positions that are attention heads, collected over the whole graph."""
    splits: Splits
    """Dimensions that were cut into several, collected over the whole graph."""

    def __getitem__(self, name: str) -> Any:
        """An argument as it stands in the graph, or its default. Raises `NoRule` if there is no such parameter."""
        for position, parameter in enumerate(parameters_of(self.node)):
            if parameter.name == name:
                if position < len(self.node.args):
                    return self.node.args[position]
                return self.node.kwargs.get(name, parameter.default_value)
        raise NoRule(name)

    def takes(self, name: str) -> bool:
        """Whether this form of the operator has a parameter of that name."""
        return any(parameter.name == name for parameter in parameters_of(self.node))

    @property
    def kind(self) -> str:
        """The operator's plain name."""
        return operator_name(self.node)

    @property
    def shape(self) -> Shape:
        """Of the result, or of the first of several."""
        return self.results[0]

    def labels(self, name: str) -> Dims:
        """The labels of a tensor argument. Raises `NoRule` if it is none."""
        labels = self.labels_of(self[name])
        if labels is None:
            raise NoRule(name)
        return labels

    def labels_of(self, value: Any) -> Dims | None:
        """The labels of a value in the graph; None if it is no tensor."""
        labels = self.known.get(value) if isinstance(value, fx.Node) else None
        return labels if isinstance(labels, tuple) else None

    def all_labels(self, values: Any) -> list[Dims]:
        """The labels of a list of tensors, or of one. Raises `NoRule` if something else is among them."""
        labels = [self.labels_of(value) for value in (values if isinstance(values, list | tuple) else [values])]
        if any(dims is None for dims in labels):
            raise NoRule("not a tensor")
        return [dims for dims in labels if dims is not None]

    def tensors(self) -> list[Dims]:
        """The labels of every tensor the call reads."""
        return [labels for node in self.node.all_input_nodes if (labels := self.labels_of(node)) is not None]

    def integer(self, name: str) -> int:
        """A number that is written in the graph. Raises `NoRule` if it is computed."""
        size = self[name]
        if not isinstance(size, int):
            raise NoRule(name)
        return size

    def weight(self, value: Any) -> str | None:
        """The name of the parameter a value is, transposed or not; None if it depends on the input."""
        while isinstance(value, fx.Node):
            if value.op == "get_attr":
                return str(value.target)
            if operator_name(value) not in RESHAPES:
                return None
            value = value.args[0]
        return None

    def produces(self, weight: str | None, labels: Any) -> None:
        """Note that these are the output channels of the layer with this weight."""
        if weight is not None:
            self.producers.append(Producer(layer_of(weight), labels))

    def freeze(self, why: str, *dims: Labels) -> None:
        """Keep these positions: `why` ends the sentence "their channels stay whole, because ..."."""
        self.reasons.freeze(self.kind, why, *dims)

    @property
    def results(self) -> list[Shape]:
        """The shapes of all results."""
        shapes = self.shapes[self.node]
        return [shapes] if isinstance(shapes, tuple) else list(shapes or ())

    def result(self, *labels: Dims) -> Value:
        """The value of the call: these labels, one for each result; further results stay whole."""
        if isinstance(self.shapes[self.node], tuple):
            return labels[0]
        return [*labels, *(frozen_like(shape) for shape in self.results[len(labels) :])]

    def untouchable(self) -> Value:
        """Labels of a result whose every dimension stays whole."""
        return frozen_like(self.shapes[self.node])


def frozen_like(shapes: Shapes) -> Value:
    """Labels that stay, for a value of this shape."""
    if isinstance(shapes, tuple):
        return tuple(frozen(size) for size in shapes)
    return None if shapes is None else [frozen_like(shape) for shape in shapes]


def layer_of(parameter: str) -> str:
    """The layer a parameter belongs to: its name without the last part, `weight` or `in_proj_weight`, say."""
    return parameter.rpartition(".")[0] or parameter
