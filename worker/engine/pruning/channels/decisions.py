"""Two programs side by side, where one decides by its values: argmax, sorting, thresholds.

Sums in float32 are ordered differently in a smaller program, so a near tie may fall the other way, and everything
behind it differs without an error. What a decision is made from does not: it is compared as any output is, and the
second program then goes on from the first one's values. Whole numbers are the same ones from there on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, fx

from worker.engine.pruning.channels.silence import Silenced, without
from worker.engine.torch_program.program import Program


@dataclass(frozen=True)
class Seen:
    """What one run computed."""

    outputs: dict[str, Tensor]
    decision_inputs: tuple[Tensor, ...]
    """The floating values that decisions were made from, in the order of the graph."""


def run(
    program: Program,
    module: fx.GraphModule,
    inputs: Mapping[str, Tensor],
    given: Sequence[Tensor] = (),
    silence: Silenced = MappingProxyType({}),
) -> Seen:
    """Run a graph module of the program.

    Where `given` has a ground of the same shape, the run goes on from that; layers read zeros where `silence` says so.
    """
    watch = _Watch(module, given, silence)
    leaves = watch.run(*program.arguments(inputs), enable_io_processing=False)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    outputs = {tensor.name: leaf for tensor, leaf in zip(program.signature.outputs, tensors, strict=True)}
    return Seen(outputs, tuple(watch.own))


def decision_inputs_of(module: fx.GraphModule) -> tuple[fx.Node, ...]:
    """The floating values from which the graph computes whole numbers or truth values, in its order."""
    deciding = {
        read: None
        for node in module.graph.nodes
        if _decides(node.meta.get("val"))
        for read in node.all_input_nodes
        if read.op == "call_function" and _floating(read.meta.get("val"))
    }
    return tuple(node for node in module.graph.nodes if node in deciding)


def _decides(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_decides(element) for element in value)
    return isinstance(value, Tensor) and not value.is_floating_point()


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


class _Watch(fx.Interpreter):
    """Keeps the inputs of decisions as they were computed, and goes on from those that are given."""

    def __init__(self, module: fx.GraphModule, given: Sequence[Tensor], silence: Silenced) -> None:
        super().__init__(module)
        self._silence = silence
        decision_inputs = decision_inputs_of(module)
        self.own: list[Tensor] = []
        self._given: dict[fx.Node, Tensor | None] = dict.fromkeys(decision_inputs)
        if len(given) == len(decision_inputs):
            self._given.update(zip(decision_inputs, given, strict=True))

    def fetch_args_kwargs_from_env(self, node: fx.Node) -> tuple[Any, Any]:
        """What a node is called with."""
        return without(node, self._silence, *super().fetch_args_kwargs_from_env(node))

    def run_node(self, node: fx.Node) -> Any:
        """Run one operator; behind a ground, go on from the given one."""
        result = super().run_node(node)
        if node not in self._given:
            return result
        self.own.append(result.clone())  # an operator behind it may work in place
        given = self._given[node]
        return result if given is None or given.shape != result.shape else given.clone()
