"""Writing the sizes in a call anew after channels were removed."""

import operator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from torch import fx

from worker.engine.pruning.channels.channel_classes import Classes, Dims, Labels
from worker.engine.torch_program.operators import parameters_of


@dataclass(frozen=True)
class Edit:
    """Changes one node of the graph that is made."""

    node: fx.Node
    classes: Classes
    pruned_mask: np.ndarray
    """By class: whether it is removed, bool `[labels]`."""

    def stay(self, labels: Labels) -> np.ndarray:
        """Which positions are left, bool `[size]`."""
        return ~self.pruned_mask[self.classes.roots(labels)]

    def left(self, labels: Labels) -> int:
        """How many positions are left."""
        return int(self.stay(labels).sum())

    def shrinks(self, labels: Labels) -> bool:
        """Whether any position is removed."""
        return self.left(labels) < len(labels)

    def set(self, name: str, value: Any) -> None:
        """Replace an argument by its name in the operator's schema."""
        place = self._place(name)
        if place < len(self.node.args):
            self.node.update_arg(place, value)
        else:
            self.node.update_kwarg(name, value)

    def set_sizes(self, name: str, dims: Dims) -> None:
        """Replace a list of sizes by what is left of these dimensions."""
        place = self._place(name)
        written: Any = self.node.args[place] if place < len(self.node.args) else self.node.kwargs[name]
        self.set(name, [self._size(size, labels) for size, labels in zip(written, dims, strict=True)])

    def call(self, target: Any, args: tuple[Any, ...]) -> None:
        """Make it a call of another operator."""
        self.node.target, self.node.args, self.node.kwargs = target, args, {}

    def _size(self, written: Any, labels: Labels) -> Any:
        """A size as it must be written now: a number, -1 ("what is left"), or a product with a varying size."""
        if written == -1 or not self.shrinks(labels):
            return written
        if isinstance(written, int):
            return self.left(labels)
        share = Fraction(self.left(labels), len(labels))  # of rows x heads, say
        with self.node.graph.inserting_before(self.node):
            product = self.node.graph.call_function(operator.mul, (written, share.numerator))
            return self.node.graph.call_function(operator.floordiv, (product, share.denominator))

    def _place(self, name: str) -> int:
        return [parameter.name for parameter in parameters_of(self.node)].index(name)
