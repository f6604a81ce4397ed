"""Networks exported by PyTorch's two exporters to ONNX, and imported again."""

from collections import Counter
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from app.admission import admit_model
from worker.engine.onnx_import.importing import import_onnx
from worker.engine.torch_program.operators import operator_name
from worker.engine.torch_program.program import Program, quiet

Exporter = Literal["dynamo", "legacy"]


def export(module: nn.Module, example: Tensor, path: Path, exporter: Exporter) -> Path:
    """The module with a varying batch; its input is called `x`."""
    with quiet():
        if exporter == "dynamo":
            batch = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                module, (example,), path, dynamo=True, input_names=["x"], dynamic_shapes=batch, external_data=False
            )
        else:
            torch.onnx.export(
                module, (example,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "batch"}}
            )
    return path


def imported(path: Path) -> Program:
    """The program of a file, as admission describes it."""
    info = admit_model(path, max_inflated_bytes=1 << 30)
    return import_onnx(path, info.signature, threads=1)


def operators(program: Program) -> Counter[str]:
    """How often each operator of a program occurs, sizes left out."""
    called = [node for node in program.exported.graph.nodes if node.op == "call_function"]
    return Counter(operator_name(node) for node in called if hasattr(node.target, "_schema"))
