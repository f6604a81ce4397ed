"""A Keras file: made a program in a toolchain's process, which is then admitted and loaded as an uploaded one is."""

import shutil
from pathlib import Path

from app.admission import AdmissionError, admit_model
from app.spec.signature import Signature, TensorSpec
from app.spec.work import ModelFile
from worker.engine.errors import LoadFailed, Unconvertible
from worker.engine.progress import Progress
from worker.engine.toolchains.process import Toolchain, ToolchainFailed, started
from worker.engine.torch_program.errors import InconsistentModel
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.pt2 import load_program

MOST_BYTES = 64 << 30
MADE = "model.pt2"


def load_keras(upload: ModelFile, directory: Path, scratch: Path, progress: Progress) -> Program:
    """The program of a `.keras` or `.h5` file that admission has accepted; inputs and outputs keep its names.

    Channels stay where they are in the file, last as a rule. Raises `LoadFailed`, `InconsistentModel`,
    `ToolchainMissing`.
    """
    path, signature = directory / upload.path, upload.info.signature
    with started("keras", directory, progress) as toolchain:
        try:
            made = _converted(toolchain, path, signature)
        except (ToolchainFailed, Unconvertible) as error:
            raise LoadFailed(
                f"Keras does not make a program of the model. {error.detail}",
                remedy="Load it with keras.saving.load_model (safe_mode=True, torch backend); or export it to ONNX.",
            ) from error
    try:
        info = admit_model(made, max_inflated_bytes=MOST_BYTES)
    except AdmissionError as error:
        raise LoadFailed(f"The program that was made of the Keras model is refused: {error.detail}") from error
    _require_same("inputs", signature.inputs, info.signature.inputs)
    _require_same("outputs", signature.outputs, info.signature.outputs)
    return load_program(made, signature, scratch)


def _converted(toolchain: Toolchain, path: Path, signature: Signature) -> Path:
    with path.open("rb") as file:
        name = "model.keras" if file.read(2) == b"PK" else "model.h5"  # Keras goes by the name
    shutil.copyfile(path, toolchain.folder / name)
    axes = [[size if isinstance(size, int) else None for size in tensor.shape] for tensor in signature.inputs]
    toolchain.do("convert", model=name, into=MADE, axes=axes, dtypes=[tensor.dtype for tensor in signature.inputs])
    return toolchain.folder / MADE


def _require_same(kind: str, declared: tuple[TensorSpec, ...], made: tuple[TensorSpec, ...]) -> None:
    """What was read in the file is what Keras made of it: types and fixed sizes, in order."""
    file_says, keras_says = _types_and_sizes(declared), _types_and_sizes(made)
    if file_says != keras_says:
        raise InconsistentModel(f"The model's {kind} are {keras_says}, its file declared {file_says}.")


def _types_and_sizes(tensors: tuple[TensorSpec, ...]) -> list[tuple[str, list[int | None]]]:
    return [(tensor.dtype, _sizes(tensor)) for tensor in tensors]


def _sizes(tensor: TensorSpec) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in tensor.shape]
