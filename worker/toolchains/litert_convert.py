"""A flat program as a TensorFlow Lite file, by litert-torch."""

import contextlib
import io
from collections import Counter

import litert_torch
import torch
from litert_torch import fx_infra
from litert_torch.backend import lowerings
from torch import Tensor, nn
from torch._ops import OpOverload

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


def convert_program(program: str, into: str, inputs: list[str], outputs: list[str]) -> None:
    """Write the program of a `.pt2` file, which takes and returns tensors in these orders, as a `.tflite` file."""
    exported = torch.export.load(program)
    rows = dict(zip(inputs, _rows(exported), strict=True))
    module = _Named(exported.module(check_guards=False), inputs, outputs)
    wide = any(tensor.dtype in WIDE for tensor in (*rows.values(), *_results(exported)))
    with contextlib.redirect_stdout(io.StringIO()):  # progress lines
        converted = litert_torch.convert(module, sample_kwargs=rows, strict_export=False, enable_x64=wide)
        converted.export(into)


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
