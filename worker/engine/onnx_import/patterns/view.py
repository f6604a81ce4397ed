"""A graph as patterns look at it: who makes a value, what a constant is, how often something is read."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from worker.engine.onnx_import.graph import Graph, Node

Ranks = Mapping[str, int]


class View:
    """One graph, or one body together with the constants around it."""

    def __init__(self, graph: Graph, whole: Graph, ranks: Ranks) -> None:
        """`ranks`: of the values whose number of axes is known."""
        self.graph, self.ranks = graph, ranks
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.constants: dict[str, np.ndarray] = {**whole.constants, **graph.constants}
        self.reads: Counter[str] = whole.reads()

    def maker(self, name: str, *ops: str) -> Node | None:
        """The node that makes a value, if it is one of these operators."""
        node = self.makers.get(name)
        return node if node is not None and node.op in ops else None

    def array(self, name: str) -> np.ndarray | None:
        """A constant."""
        return self.constants.get(name)

    def number(self, name: str) -> float | None:
        """A constant of one element."""
        array = self.constants.get(name)
        return (
            float(array.reshape(-1)[0])
            if array is not None and array.size == 1 and array.dtype.kind in "fiuV"
            else None
        )

    def is_number(self, name: str, wanted: float, tolerance: float = 1e-3) -> bool:
        """Whether a constant is (about) this number."""
        number = self.number(name)
        return number is not None and math.isclose(number, wanted, rel_tol=tolerance)

    def axes(self, node: Node) -> tuple[int, ...] | None:
        """The axes of a reduction, counted from the end; None if they are not known."""
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1:
            array = self.array(node.inputs[1])
            axes = None if array is None else array.reshape(-1).tolist()
        rank = self.ranks.get(node.inputs[0])
        if axes is None or (rank is None and any(axis >= 0 for axis in axes)):
            return None
        return tuple(sorted(axis - (rank or 0) if axis >= 0 else axis for axis in axes))

    def factors(self, name: str, depth: int = 3) -> tuple[float, list[str]]:
        """A product of products taken apart: the product of its numbers, and its other factors."""
        number = self.number(name)
        if number is not None:
            return number, []
        node = self.maker(name, "Mul", "Div")
        if node is None or not depth:
            return 1.0, [name]
        if node.op == "Div":
            divisor = self.number(node.inputs[1])
            if not divisor:
                return 1.0, [name]
            scale, others = self.factors(node.inputs[0], depth - 1)
            return scale / divisor, others
        first, second = (self.factors(part, depth - 1) for part in node.inputs)
        return first[0] * second[0], [*first[1], *second[1]]

    def is_own(self, name: str) -> bool:
        """Whether a constant of this very graph is read once."""
        return name in self.graph.constants and self.reads[name] == 1

    def replace(self, name: str, array: np.ndarray) -> None:
        """Change a constant of this graph."""
        self.graph.constants[name] = self.constants[name] = array


def either_way(node: Node) -> Iterator[tuple[str, str]]:
    """The two inputs of a commutative node in both orders."""
    first, second = node.inputs
    yield first, second
    yield second, first
