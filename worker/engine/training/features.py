"""Values inside of a graph: read while it runs, without changing it."""

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from worker.engine.errors import EngineError
from worker.engine.torch_program.program import Program


class UnknownFeature(EngineError):
    """A feature to be matched names no node of the graph."""

    code = "distill.unknown_feature"
    remedy = "Use the name of a node of the exported graph (print(exported.graph)), or of a node or value of the ONNX."


FEATURE = "feature:"
"""Begins the names under which features are found among outputs."""


def require_names(names: Collection[str], known: Collection[str], whose: str) -> None:
    """Raise `UnknownFeature` for the first of the names that is not known."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4) or sorted(known)[:3]
            raise UnknownFeature(f"The {whose} has no node '{name}'; close to it are {', '.join(close)}.")


def tapped(
    program: Program, module: fx.GraphModule, names: Collection[str], whose: str
) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function from inputs to outputs by name and, as `feature:NODE`, values of nodes. Raises `UnknownFeature`."""
    if not names:
        return lambda inputs: program.outputs_of(module, inputs)
    require_names(names, [node.name for node in module.graph.nodes if node.op == "call_function"], whose)

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tap = _Tap(module, frozenset(names))
        leaves = tree_leaves(tap.run(*program.arguments(inputs), enable_io_processing=False))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        outputs = {spec.name: tensor for spec, tensor in zip(program.signature.outputs, tensors, strict=True)}
        return outputs | tap.features

    return run


class _Tap(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, names: frozenset[str]) -> None:
        super().__init__(module)
        self._names = names
        self.features: dict[str, Tensor] = {}

    def run_node(self, node: fx.Node) -> Any:
        """Run one operator and keep its result if it was asked for."""
        result = super().run_node(node)
        if node.name in self._names:
            self.features[f"{FEATURE}{node.name}"] = result
        return result
