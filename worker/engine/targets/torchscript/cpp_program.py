"""The C++ program beside a TorchScript file: it knows the model's inputs and outputs, and is built with CMake."""

import json
import zipfile
from importlib import resources
from pathlib import Path

from app.spec.signature import Dimension, Signature, TensorSpec
from app.spec.targets import TorchScriptTarget
from worker.engine.data.synthetic import example_shapes

FOLDER = "run_model"
"""Of the C++ program, inside the archive."""
SCALARS = {
    "float32": "kFloat",
    "float64": "kDouble",
    "float16": "kHalf",
    "bfloat16": "kBFloat16",
    "int64": "kLong",
    "int32": "kInt",
    "int16": "kShort",
    "int8": "kChar",
    "uint8": "kByte",
    "bool": "kBool",
}
"""C++ names of the types that LibTorch has."""
ENGINES = {"x86": "X86", "qnnpack": "QNNPACK"}
STAMP = (1980, 1, 1, 0, 0, 0)
"""Of files in the archive: the same model makes the same bytes."""


def write_cpp_program(target: TorchScriptTarget, signature: Signature, path: Path) -> Path:
    """Write an archive of `main.cpp` and `CMakeLists.txt` for a model of this signature."""
    shapes = example_shapes(signature, 1)
    source = _template("main.cpp")
    for place, text in {
        "@INPUTS@": "\n".join(_input(tensor, shapes[tensor.name]) for tensor in signature.inputs),
        "@OUTPUTS@": ", ".join(json.dumps(tensor.name) for tensor in signature.outputs),
        "@ENGINE@": ENGINES[target.engine],
    }.items():
        source = source.replace(place, text)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("main.cpp", source), ("CMakeLists.txt", _template("CMakeLists.txt"))):
            archive.writestr(zipfile.ZipInfo(f"{FOLDER}/{name}", STAMP), content)
    return path


def _input(tensor: TensorSpec, shape: tuple[int, ...]) -> str:
    varies = bool(tensor.shape) and isinstance(tensor.shape[0], Dimension)
    sizes = ", ".join(map(str, shape))
    return f"    {{{json.dumps(tensor.name)}, torch::{SCALARS[tensor.dtype]}, {{{sizes}}}, {str(varies).lower()}}},"


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("cpp", name).read_text(encoding="utf-8")
