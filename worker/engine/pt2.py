"""A `.pt2` program: loaded without its sample inputs, run as the reference, and expressed as float32 ONNX."""

import contextlib
import io
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import TensorArgument
from torch.utils._pytree import tree_flatten, tree_unflatten

from app.spec.signature import FLOATS, Signature
from worker.engine.errors import ExportFailed, InconsistentModel, LoadFailed
from worker.engine.onnx_file import forget_origins, save
from worker.engine.sessions import session
from worker.engine.synthetic import example_batch

OPSET = 20
"""The newest that TensorRT 10.0 reads; ONNX Runtime's quantizer and kernels cover all of it."""
TOLERANCE = 1e-3
"""Largest difference allowed between program and ONNX, relative to the output's largest magnitude."""
CHECKED_ROWS = 3
"""Not the 1 or 2 of a typical example batch, so that a batch dimension baked in by mistake shows."""
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Program:
    """An exported program with the names its inputs and outputs have in the contract."""

    exported: ExportedProgram
    signature: Signature

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name for one batch."""
        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[tensor.name])) for tensor in self.signature.inputs]
        with torch.inference_mode():
            returned = self.exported.module()(*self._arguments(tensors)[0], **self._arguments(tensors)[1])
        leaves = [leaf for leaf in tree_flatten(returned)[0] if isinstance(leaf, torch.Tensor)]
        return {
            tensor.name: leaf.numpy(force=True) for tensor, leaf in zip(self.signature.outputs, leaves, strict=True)
        }

    def _arguments(self, tensors: list[torch.Tensor]) -> tuple[tuple, dict]:
        """Tensors, and the constants the program was exported with, in the nesting of its call."""
        given = iter(tensors)
        leaves = [
            next(given) if isinstance(spec.arg, TensorArgument) else getattr(spec.arg, "value", None)
            for spec in self.exported.graph_signature.input_specs
            if spec.kind.name == "USER_INPUT"
        ]
        args, kwargs = tree_unflatten(leaves, self.exported.call_spec.in_spec)
        return args, kwargs


def load_program(upload: Path, signature: Signature, scratch: Path) -> Program:
    """Load a `.pt2` that admission has accepted. Raises `LoadFailed`, `InconsistentModel`."""
    washed = scratch / "washed.pt2"
    wash(upload, washed)
    try:
        with _quiet():
            exported = torch.export.load(washed)
    except Exception as error:  # the deserializer raises whatever a malformed member leads to
        raise LoadFailed(f"torch {torch.__version__} refuses the program: {type(error).__name__}.") from error
    finally:
        washed.unlink(missing_ok=True)
    specs = exported.graph_signature
    inputs = [s for s in specs.input_specs if s.kind.name == "USER_INPUT" and isinstance(s.arg, TensorArgument)]
    outputs = [s for s in specs.output_specs if s.kind.name == "USER_OUTPUT" and isinstance(s.arg, TensorArgument)]
    if (len(inputs), len(outputs)) != (len(signature.inputs), len(signature.outputs)):
        raise InconsistentModel(
            f"The program has {len(inputs)} inputs and {len(outputs)} outputs, "
            f"its file declared {len(signature.inputs)} and {len(signature.outputs)}."
        )
    return Program(exported, signature)


def wash(upload: Path, washed: Path) -> None:
    """Copy the archive with empty sample inputs: torch unpickles those without restriction, and they hold user data."""
    try:
        with zipfile.ZipFile(upload) as source, zipfile.ZipFile(washed, "w", zipfile.ZIP_STORED) as target:
            for member in source.infolist():
                with target.open(zipfile.ZipInfo(member.filename), "w", force_zip64=True) as copy:
                    if "/data/sample_inputs/" not in f"/{member.filename}":
                        with source.open(member) as original:
                            shutil.copyfileobj(original, copy, COPY_BYTES)
    except zipfile.BadZipFile as error:
        raise LoadFailed("The .pt2 file is not a readable zip archive.") from error


def export_onnx(program: Program, path: Path, *, threads: int, seed: int) -> None:
    """Write the program as float32 ONNX with its own names and dynamic dimensions.

    Raises `ExportFailed` if an operator has no ONNX form or the ONNX graph computes something else.
    """
    try:
        with _quiet():
            converted = torch.onnx.export(
                program.exported,
                dynamo=True,
                opset_version=OPSET,
                input_names=[tensor.name for tensor in program.signature.inputs],
                output_names=[tensor.name for tensor in program.signature.outputs],
                verbose=False,
            )
    except Exception as error:  # the exporter wraps any failure of its passes and decompositions
        raise ExportFailed(f"The program cannot be expressed as ONNX: {_cause(error)}") from error
    if converted is None:
        raise ExportFailed("The exporter returned nothing.")
    model = converted.model_proto
    forget_origins(model)
    save(model, path)
    require_same(program, path, threads=threads, seed=seed)


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
    batch = example_batch(program.signature, CHECKED_ROWS, seed)
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress lines and torch's own deprecations, which say nothing to a user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
