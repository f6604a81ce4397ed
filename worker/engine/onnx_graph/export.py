"""An exported program as float32 ONNX that computes the same."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from app.spec.signature import FLOATS
from worker.engine.data.synthetic import example_batch
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_graph.file import forget_origins, save
from worker.engine.onnx_graph.names import give_names, placeholders, require_distinct
from worker.engine.onnx_graph.sessions import session
from worker.engine.torch_program.program import EXAMPLE_ROWS, Program, forget_source, quiet

OPSET = 20
"""The newest that TensorRT 10.0 reads; ONNX Runtime's quantizer and kernels cover all of it."""
TOLERANCE = 1e-3
"""Largest difference allowed between program and ONNX, relative to the output's largest magnitude."""


@dataclass(frozen=True)
class OnnxExport:
    """A program in both of the forms that an export leaves."""

    path: Path
    """The float32 ONNX file."""
    translated: ExportedProgram
    """Operator by operator as in the file: decomposed, with nodes named like the values there."""


class OnnxForm:
    """The ONNX form of one program: exported when it is first asked for, and kept."""

    def __init__(self) -> None:
        self._export: OnnxExport | None = None

    def of(self, program: Program, folder: Path) -> OnnxExport:
        """The export, whose file is `float.onnx` in the folder. Raises `ExportFailed`."""
        if self._export is None:
            path = folder / "float.onnx"
            self._export = OnnxExport(path, export_onnx(program, path, threads=torch.get_num_threads(), seed=0))
        return self._export


def export_onnx(program: Program, path: Path, *, threads: int, seed: int) -> ExportedProgram:
    """Write the program as float32 ONNX with its own names and dynamic dimensions.

    Returns it as it was translated, operator by operator: decomposed, with nodes named like the values in the file.
    Raises `ExportFailed` if an operator has no ONNX form, the ONNX graph computes something else, or two inputs or
    outputs have one name.
    """
    inputs, outputs = program.signature.inputs, program.signature.outputs
    require_distinct((*inputs, *outputs))
    meanwhile = [*placeholders(inputs, "input"), *placeholders(outputs, "output")]
    try:
        with quiet():
            converted = torch.onnx.export(
                program.exported,
                dynamo=True,
                opset_version=OPSET,
                input_names=meanwhile[: len(inputs)],
                output_names=meanwhile[len(inputs) :],
                verbose=False,
            )
    except Exception as error:  # the exporter wraps any failure of its passes and decompositions
        raise ExportFailed(f"The program cannot be expressed as ONNX: {_cause(error)}") from error
    if converted is None or converted.exported_program is None:
        raise ExportFailed("The exporter returned nothing.")
    model = converted.model_proto
    forget_origins(model)
    wanted = dict(zip(meanwhile, (tensor.name for tensor in (*inputs, *outputs)), strict=True))
    give_names(model.graph, converted.exported_program.graph_module.graph, wanted)
    save(model, path)
    require_same(program, path, threads=threads, seed=seed)
    return forget_source(converted.exported_program)


def _cause(error: BaseException) -> str:
    """The operator without a decomposition, else the kind of failure: messages quote source paths."""
    while (inner := error.__cause__) is not None:
        error = inner
    operator = re.search(
        r"(?:aten|prims|torchvision|quantized_decomposed)[.:]+[a-z_0-9]+(?:\.[A-Za-z_0-9]+)?", str(error)
    )
    return f"operator {operator.group()}." if operator else f"{type(error).__name__}."


def require_same(program: Program, path: Path, *, threads: int, seed: int) -> None:
    """Run both on one random batch; raise `ExportFailed` if an output differs by more than `TOLERANCE`."""
    batch = example_batch(program.signature, EXAMPLE_ROWS, seed)
    names = [tensor.name for tensor in program.signature.outputs]
    try:
        expected = program(batch)
        actual = dict(zip(names, session(path, threads).run(names, batch), strict=True))
    except Exception as error:  # runtime errors of two libraries, neither with a common class
        raise ExportFailed(f"The ONNX graph of the program does not run: {type(error).__name__}.") from error
    for tensor in program.signature.outputs:
        want, got = expected[tensor.name], actual[tensor.name]
        if want.shape != got.shape:
            raise ExportFailed(f"Output {tensor.name} has shape {list(got.shape)} in ONNX, not {list(want.shape)}.")
        if tensor.dtype in FLOATS and want.size:
            magnitude = max(1e-6, float(np.abs(want).max()))
            error_share = float(np.abs(want.astype(np.float64) - got).max()) / magnitude
            if not error_share <= TOLERANCE and np.isfinite(want).all():
                raise ExportFailed(f"Output {tensor.name} differs by {error_share:.2%} of its magnitude in ONNX.")
