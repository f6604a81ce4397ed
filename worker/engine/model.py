"""The model a job works on: a float ONNX graph on disk, what it was made from, and the plan that is attached to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.spec.signature import Signature
from app.spec.work import ModelFile
from worker.engine.errors import ExportFailed, InconsistentModel
from worker.engine.onnx_file import unpack_bundle
from worker.engine.plan import Plan
from worker.engine.sessions import session

Reference = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""The source program: outputs by name for one batch of inputs by name."""


@dataclass(frozen=True)
class Model:
    """A float32 model. A step returns another one; files are never changed in place."""

    graph: Path
    """The ONNX file, with its external tensors beside it."""
    signature: Signature
    reference: Reference | None = None
    """The program that was uploaded, where that was not the ONNX file itself."""
    plan: Plan | None = None
    """How to quantize it; carried out by each target in its own way."""


def open_model(upload: ModelFile, directory: Path, scratch: Path, *, threads: int, seed: int) -> Model:
    """Load an upload that admission has accepted; a `.pt2` is exported to ONNX and compared with it.

    Raises `LoadFailed`, `ExportFailed`, `InconsistentModel`.
    """
    path, signature = directory / upload.path, upload.info.signature
    if upload.info.format == "pt2":
        # Imported here: torch.export takes a second that an ONNX job can do without.
        from worker.engine.pt2 import export_onnx, load_program

        program = load_program(path, signature, scratch)
        graph = scratch / "program.onnx"
        try:
            export_onnx(program, graph, threads=threads, seed=seed)
        except ExportFailed as error:
            if not any("training mode" in warning for warning in upload.info.warnings):
                raise
            raise ExportFailed(
                f"{error.detail} The program was exported in training mode.",
                remedy="Call model.eval() before torch.export.export, and upload that.",
            ) from error
        return Model(graph, signature, program)
    graph = unpack_bundle(path, scratch / "bundle") if upload.info.external_data else path
    require_signature(graph, signature, threads)
    return Model(graph, signature)


def require_signature(graph: Path, signature: Signature, threads: int) -> None:
    """Load the graph; raise `InconsistentModel` if it has other inputs or outputs, `LoadFailed` if it does not load."""
    runner = session(graph, threads)
    for kind, loaded, declared in (
        ("inputs", runner.get_inputs(), signature.inputs),
        ("outputs", runner.get_outputs(), signature.outputs),
    ):
        names, expected = [entry.name for entry in loaded], [tensor.name for tensor in declared]
        if names != expected:
            raise InconsistentModel(f"The loaded graph's {kind} are {names}, its file declared {expected}.")
