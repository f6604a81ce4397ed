"""A program in another floating-point type: its weights, and the types that are written into its graph."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils._pytree import tree_map

from worker.engine.torch_program.program import Program

HALVES = frozenset({torch.float16, torch.bfloat16})
FLOATS = HALVES | {torch.float32}
_AUTOCAST = "wrap_with_autocast"


def computes_in_halves(exported: ExportedProgram) -> bool:
    """Whether a value or weight of the program is in half precision, or an autocast region would make it so."""
    tensors = [*exported.state_dict.values(), *exported.constants.values()]
    if any(isinstance(tensor, Tensor) and tensor.dtype in HALVES for tensor in tensors):
        return True
    return any(
        (_is_autocast(node) and node.args[2]) or _mentions_half(node)
        for graph in _graphs(exported)
        for node in graph.graph.nodes
    )


def in_float32(program: Program) -> Program:
    """The program with its half-precision weights, values and regions in float32. Raises `ReexportFailed`."""
    return program.rebuilt(retyped(program.graph_module(), HALVES, torch.float32))


def in_float64(program: Program) -> fx.GraphModule:
    """The program's module with every float in double precision: what its own rounding errors are measured by."""
    return retyped(program.graph_module(), FLOATS, torch.float64)


def retyped(module: fx.GraphModule, types: Collection[torch.dtype], wanted: torch.dtype) -> fx.GraphModule:
    """`module`, changed in place: tensors of these types, and mentions of the types, are of the `wanted` one."""

    def changed(value: Any) -> Any:
        return wanted if isinstance(value, torch.dtype) and value in types else value

    for graph in [part for part in module.modules() if isinstance(part, fx.GraphModule)]:
        for node in graph.graph.nodes:
            if _is_autocast(node):
                node.args = (node.args[0], None, False, *node.args[3:])
            elif node.op == "call_function":
                node.args = tree_map(changed, node.args)
                node.kwargs = tree_map(changed, dict(node.kwargs))
        graph.recompile()
    for part in module.modules():
        _retype_tensors(part, types, wanted)
    return module


def _retype_tensors(part: torch.nn.Module, types: Collection[torch.dtype], wanted: torch.dtype) -> None:
    """Parameters and buffers of one module, and constants that are plain attributes."""
    for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
        if tensor.dtype in types:
            tensor.data = tensor.data.to(wanted)
    for name, value in list(vars(part).items()):
        if isinstance(value, Tensor) and value.dtype in types:
            setattr(part, name, value.to(wanted))


def _graphs(exported: ExportedProgram) -> list[fx.GraphModule]:
    return [part for part in exported.graph_module.modules() if isinstance(part, fx.GraphModule)]


def _is_autocast(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == _AUTOCAST


def _mentions_half(node: fx.Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(tensor, Tensor) and tensor.dtype in HALVES for tensor in values)
