"""An exported program as float32 ONNX that computes the same."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.agreement import require_same
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_graph.file import forget_origins, save
from worker.engine.onnx_graph.names import give_names, placeholders, require_distinct
from worker.engine.torch_program.program import Program, forget_source, quiet

OPSET = 20
"""The newest that TensorRT 10.0 reads; ONNX Runtime's quantizer and kernels cover all of it."""


@dataclass(frozen=True)
class OnnxExport:
    """A program in both of the forms that an export leaves."""

    path: Path
    """The float32 ONNX file."""
    translated: ExportedProgram
    """Operator by operator as in the file: decomposed, with nodes named like the values there."""


class OnnxForm:
    """The ONNX form of one program: exported when it is first asked for, and kept."""

    def __init__(self, rows: Rows | None = None, *, in_training_mode: bool = False) -> None:
        """`rows` are what program and ONNX are compared on; `in_training_mode` says how the program was exported."""
        self.rows, self.in_training_mode = rows, in_training_mode
        self._made: OnnxExport | ExportFailed | None = None

    def of(self, program: Program, folder: Path) -> OnnxExport:
        """The export, whose file is `float.onnx` in the folder. Raises `ExportFailed`, each time it is asked for."""
        if self._made is None:
            self._made = self._export(program, folder / "float.onnx")
        if isinstance(self._made, ExportFailed):
            raise self._made
        return self._made

    def _export(self, program: Program, path: Path) -> OnnxExport | ExportFailed:
        try:
            return OnnxExport(path, export_onnx(program, path, self.rows, threads=torch.get_num_threads(), seed=0))
        except ExportFailed as error:
            if not self.in_training_mode:
                return error
            return ExportFailed(
                f"{error.detail} The program was exported in training mode.",
                remedy="Call model.eval() before torch.export.export, and upload that.",
            )

    def of_changed(self) -> "OnnxForm":
        """A form for the program after a step, compared on the same rows."""
        return OnnxForm(self.rows, in_training_mode=self.in_training_mode)


def export_onnx(program: Program, path: Path, rows: Rows | None = None, *, threads: int, seed: int) -> ExportedProgram:
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
    require_same(program, path, converted.exported_program, rows, threads=threads, seed=seed)
    return forget_source(converted.exported_program)


def _cause(error: BaseException) -> str:
    """The operator without a decomposition, else the kind of failure: messages quote source paths."""
    while (inner := error.__cause__) is not None:
        error = inner
    operator = re.search(
        r"(?:aten|prims|torchvision|quantized_decomposed)[.:]+[a-z_0-9]+(?:\.[A-Za-z_0-9]+)?", str(error)
    )
    return f"operator {operator.group()}." if operator else f"{type(error).__name__}."
