"""A flat program as a TensorFlow Lite file, by litert-torch."""

import contextlib
import io
from collections import Counter
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import litert_torch
import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators of quantized programs
from litert_torch import fx_infra
from litert_torch.backend import lowerings
from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
from litert_torch.quantize.quant_config import QuantConfig
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from .litert_weights import Codes, store_codes

Kernels = Literal["static", "dynamic"]

CODES = torch.ops.quantized_decomposed
DEQUANTIZES: dict[Any, Any] = {
    CODES.dequantize_per_tensor.default: CODES.quantize_per_tensor.default,
    CODES.dequantize_per_channel.default: CODES.quantize_per_channel.default,
}
WIDE = (torch.int64, torch.float64)
"""Types that the converter would narrow unasked."""


class _Named(nn.Module):
    """The program with named inputs and outputs: the converter takes the names of a signature from them."""

    def __init__(self, inner: nn.Module, inputs: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.inner, self.inputs, self.outputs = inner, inputs, outputs

    def forward(self, **rows: Tensor) -> dict[str, Tensor]:
        values = self.inner(*(rows[name] for name in self.inputs))
        return dict(zip(self.outputs, values, strict=True))


def convert_program(program: str, into: str, inputs: list[str], outputs: list[str], kernels: Kernels) -> int:
    """Write the program of a `.pt2` file, which takes and returns tensors in these orders, as a `.tflite` file.

    `kernels`: what multiplies int8 weights. "static": integers, activations on the program's own grids. "dynamic":
    integers, on grids that kernels find at run time. Returns the number of weights stored as codes for "dynamic".
    """
    exported = torch.export.load(program)
    module = exported.module(check_guards=False)
    rows = dict(zip(inputs, _rows(exported), strict=True))
    wide = any(tensor.dtype in WIDE for tensor in (*rows.values(), *_results(exported)))
    weights = []
    if kernels == "static":
        _quantize_constants(module)
    else:
        weights = list(_floats_for_codes(module))
        _leave_grids_to_kernels(module)
    named = _Named(module, inputs, outputs)
    with contextlib.redirect_stdout(io.StringIO()):  # progress lines
        converted = litert_torch.convert(
            named,
            sample_kwargs=rows,
            strict_export=False,
            enable_x64=wide,
            quant_config=_fusing() if kernels == "static" else None,
        )
        converted.export(into)
    return store_codes(Path(into), weights) if weights else 0


def _constants(module: fx.GraphModule) -> Iterator[tuple[fx.Node, Tensor, list[Any]]]:
    """Every dequantize of a constant, with its codes and its other arguments."""
    for node in list(module.graph.nodes):
        source = node.args[0] if node.target in DEQUANTIZES else None
        if isinstance(source, fx.Node) and source.op == "get_attr":
            grid = [
                attrgetter(str(argument.target))(module) if isinstance(argument, fx.Node) else argument
                for argument in node.args[1:]
            ]
            yield node, attrgetter(str(source.target))(module), grid


def _floats(module: fx.GraphModule, node: fx.Node, codes: Tensor, grid: list[Any]) -> fx.Node:
    """The values of a dequantize of a constant, as a constant in front of it."""
    name = f"{node.name}_values"
    module.register_buffer(name, node.target(codes, *grid))  # type: ignore[operator]  # an operator is called
    with module.graph.inserting_before(node):
        return module.graph.get_attr(name)


def _floats_for_codes(module: fx.GraphModule) -> Iterator[Codes]:
    """Turn int8 constants into the floats that they stand for, and yield the codes."""
    for node, codes, grid in _constants(module):
        node.replace_all_uses_with(_floats(module, node, codes, grid))
        scales = grid[0] if isinstance(grid[0], Tensor) else torch.tensor([grid[0]])
        yield Codes(codes.numpy(), scales.numpy().astype(np.float32))


def _quantize_constants(module: fx.GraphModule) -> None:
    """Turn int8 constants into floats and the quantize that makes the same codes of them, as the converter wants it.

    It takes the type of a tensor from the quantize in front of it, and folds the two.
    """
    for node, codes, grid in _constants(module):
        values = _floats(module, node, codes, grid)
        with module.graph.inserting_before(node):
            node.update_arg(0, module.graph.call_function(DEQUANTIZES[node.target], (values, *node.args[1:])))
    module.recompile()


def _leave_grids_to_kernels(module: fx.GraphModule) -> None:
    """Take out what rounds activations on a grid chosen at run time: kernels for dynamic ranges do it themselves."""
    for node in module.graph.find_nodes(op="call_function", target=CODES.dequantize_per_tensor.tensor):
        node.replace_all_uses_with(node.args[0].args[0])
    module.graph.eliminate_dead_code()
    module.recompile()


def _fusing() -> QuantConfig:
    """What has the converter make integer kernels of the program's codes; nothing of this is quantized anew."""
    return QuantConfig(
        pt2e_quantizer=PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    )


def lowered_operators(program: str) -> tuple[dict[str, int], list[str]]:
    """Operators of a program after the converter's decompositions, and those that its registry has no lowering for."""
    exported = torch.export.load(program)
    with contextlib.redirect_stdout(io.StringIO()):  # progress lines
        for decompositions in (fx_infra.decomp.pre_convert_decomp(), fx_infra.decomp.pre_lower_decomp()):
            exported = fx_infra.safe_run_decompositions(exported, decompositions, can_skip=False)
    targets = [node.target for node in exported.graph.nodes if isinstance(node.target, OpOverload)]
    unknown = sorted({str(target) for target in targets if lowerings.lookup(target) is None})
    return dict(Counter(map(str, targets))), unknown


def _rows(exported: torch.export.ExportedProgram) -> list[Tensor]:
    """Zeros of the shapes that the program takes."""
    names = set(exported.graph_signature.user_inputs)
    places = [node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder" and node.name in names]
    return [torch.zeros(tuple(map(int, value.shape)), dtype=value.dtype) for value in places]


def _results(exported: torch.export.ExportedProgram) -> list[Tensor]:
    names = set(exported.graph_signature.user_outputs)
    return [node.meta["val"] for node in exported.graph.nodes if node.name in names]
