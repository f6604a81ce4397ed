"""A plan carried out on the program's own graph, for converters of exported programs: float operators between codes.

Ranges, scales, zero-points, int8 weights and corrected biases are read off the ONNX graph that the plan becomes for
processors which multiply signed bytes: nothing is decided a second time, and nothing is calibrated again. No converter
is named here; each recognizes `dequantize -> operator -> quantize` in its own way.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from worker.engine.errors import PlanNotSupported
from worker.engine.lowering.program.dynamic import carry_out_dynamic
from worker.engine.lowering.program.static import carry_out_static
from worker.engine.lowering.program.weights import carry_out_weights
from worker.engine.model import Model
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.plan import DynamicPlan, StaticPlan, WeightsPlan
from worker.engine.torch_program.program import Program


@dataclass(frozen=True)
class QuantizedProgram:
    """A program with codes, and what became of the plan in it."""

    program: Program
    layers: int
    """Layers with int8 weights."""
    left: tuple[str, ...]
    """Nodes that the plan quantizes and that have no such form in the program: they stay in floating point."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report says of it."""
        if not self.left:
            return ()
        return (f"Left in floating point, for want of an integer form: {', '.join(self.left)}.",)


def quantized_program(model: Model) -> QuantizedProgram:
    """The model's program with its plan carried out; `QuantizedProgram.program` saves as `.pt2` and runs in torch.

    Raises `PlanNotSupported` for shared values, `NothingToQuantize` where the program shows
    none of the plan's layers, `NotImported` for an ONNX file of which no program can be made, `ExportFailed`,
    `ReexportFailed`.
    """
    named = model.translated
    module = named.graph_module()
    _drop_copies(module)
    match model.plan:
        case StaticPlan() as plan:
            layers, left = carry_out_static(plan, named, module)
        case DynamicPlan() as plan:
            layers, left = carry_out_dynamic(plan, named, module)
        case WeightsPlan() as plan:
            layers, left = carry_out_weights(plan, named, module)
        case _:
            raise PlanNotSupported("Tables of shared values are not carried out on programs.")
    if not layers:
        raise NothingToQuantize("The program shows none of the layers that the plan quantizes.")
    module.graph.eliminate_dead_code()
    _drop_unread(module)
    module.graph.lint()
    module.recompile()
    return QuantizedProgram(named.rebuilt(module), layers, left)


def _drop_copies(module: fx.GraphModule) -> None:
    """Take out copies, as dropout leaves them: they would stand between codes and the operator that reads them."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.clone.default):
        if not node.kwargs:  # else in another order of axes, which what follows may need
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def _drop_unread(module: fx.GraphModule) -> None:
    """Delete parameters and buffers that no node reads."""
    read = {str(node.target) for node in module.graph.find_nodes(op="get_attr")}
    stored: dict[str, Any] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in stored.keys() - read:
        owner, _, attribute = name.rpartition(".")
        delattr(module.get_submodule(owner), attribute)
