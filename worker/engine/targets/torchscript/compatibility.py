"""TorchScript: the schemas that this LibTorch has registered, and where it has all, a compilation."""

from collections import Counter
from collections.abc import Iterator

import torch
from torch._ops import OpOverload

from app.spec.compatibility import Compatibility
from app.spec.targets import TorchScriptTarget
from worker.engine.targets.support.base import Look
from worker.engine.targets.support.by_registry import by_registry
from worker.engine.targets.torchscript.delivery import deliver_torchscript

REGISTRY = f"registry of schemas of torch {torch.__version__.split('+')[0]}"
OURS = ("aten", "prim", "prims", "quantized")
"""Namespaces that LibTorch registers by itself; others come with libraries that a C++ program would have to load."""


def torchscript_compatibility(targets: tuple[TorchScriptTarget, ...], look: Look) -> Iterator[Compatibility]:
    """PyTorch's operators if some are unknown to LibTorch, else those of the frozen file."""
    called = [node.target for node in look.model.program.graph_module().graph.nodes]
    operators = [operator for operator in called if isinstance(operator, OpOverload)]
    unknown = {str(operator) for operator in operators if not _registered(operator)}
    yield from by_registry(deliver_torchscript, targets, look, Counter(map(str, operators)), unknown, REGISTRY)


def _registered(operator: OpOverload) -> bool:
    known = torch._C._jit_get_schemas_for_operator(operator._schema.name)  # noqa: SLF001  # there is no public way
    return operator.namespace in OURS and bool(known)
