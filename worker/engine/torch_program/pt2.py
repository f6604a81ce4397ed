"""A `.pt2` file: washed, loaded, and compared with what admission read in it."""

import shutil
import zipfile
from pathlib import Path

import torch
from torch.export.graph_signature import TensorArgument

from app.spec.signature import Signature
from worker.engine.errors import LoadFailed
from worker.engine.torch_program.errors import InconsistentModel
from worker.engine.torch_program.precision import computes_in_halves, in_float32
from worker.engine.torch_program.program import Program, drop_derived_ranges, forget_source, quiet

COPY_BYTES = 1 << 20


def load_program(upload: Path, signature: Signature, scratch: Path) -> Program:
    """Load a `.pt2` that admission has accepted; half precision is worked on in float32, as its signature says.

    Raises `LoadFailed`, `InconsistentModel`, `ReexportFailed`.
    """
    washed = scratch / f"{upload.stem}-washed.pt2"
    wash(upload, washed)
    try:
        with quiet():
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
    program = Program(forget_source(drop_derived_ranges(exported)), signature)
    return in_float32(program) if computes_in_halves(exported) else program


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
