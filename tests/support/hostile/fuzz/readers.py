"""Every reader of uploaded bytes, and how it is called. Imports no torch: its memory is measured beside theirs."""

import io
from collections.abc import Callable
from pathlib import Path

from app.admission import AdmissionError, admit_dataset, admit_model, bounded_json
from app.admission.errors import Broken, Inflating, Unsafe
from app.admission.expressions import read_size, require_guard
from app.admission.hdf5 import Attributes
from app.admission.image_head import NotAnImage, head_of
from app.admission.onnx import read_onnx
from app.admission.parquet import read_parquet
from app.admission.pickles import read_pickle
from app.admission.safetensors import read_safetensors
from app.admission.tarred import read_tar
from app.admission.thrift import ListOf, Reader, Struct
from app.admission.zipped import Archive
from app.spec.architecture import Architecture
from app.spec.data import DatasetSpec

GIB = 1 << 30
ARCHITECTURE = Architecture.model_validate({"architecture": "torchvision:resnet18"})
TOKENIZED = DatasetSpec.model_validate({"tokenize": {"text": ["text"], "max_length": 8}})
NESTED = Struct({1: int, 2: bytes, 3: ListOf(Struct({1: int, 2: ListOf(int)})), 4: bool})
REFUSALS = (AdmissionError, Broken, Unsafe, Inflating, NotAnImage)
"""What a reader may raise. `admit_model` and `admit_dataset` may raise an `AdmissionError` only."""


def _zip(path: Path) -> None:
    with path.open("rb") as file:
        archive = Archive(file, 0, path.stat().st_size, max_inflated_bytes=GIB)
        for member in archive.members.values():
            for _ in archive.chunks(member):
                pass


def _tar(path: Path) -> None:
    with path.open("rb") as file:
        read_tar(file, path.stat().st_size)


def _onnx(path: Path) -> None:
    with path.open("rb") as file:
        if path.stat().st_size:  # `admit_model` refuses an empty one before
            read_onnx(file, 0, path.stat().st_size)


def _parquet(path: Path) -> None:
    with path.open("rb") as file:
        read_parquet(file, path.stat().st_size, DatasetSpec(), max_inflated_bytes=GIB)


def _hdf5(path: Path) -> None:
    with path.open("rb") as file:
        Attributes(file, path.stat().st_size).text("model_config")


def _safetensors(path: Path) -> None:
    with path.open("rb") as file:
        read_safetensors(file, path.stat().st_size)


def _expressions(path: Path) -> None:
    text = path.read_bytes().decode(errors="replace")
    try:
        read_size(text)
    except AdmissionError:
        require_guard(text)


def _model(path: Path) -> None:
    admit_model(path, max_inflated_bytes=GIB)


def _weights(path: Path) -> None:
    admit_model(path, max_inflated_bytes=GIB, architecture=ARCHITECTURE)


def _dataset(path: Path) -> None:
    admit_dataset(path, DatasetSpec(), max_inflated_bytes=GIB)


READERS: dict[str, Callable[[Path], object]] = {
    "zip": _zip,
    "tar": _tar,
    "protobuf": _onnx,
    "thrift": lambda path: Reader(path.read_bytes()).read(NESTED),
    "parquet": _parquet,
    "hdf5": _hdf5,
    "pickle": lambda path: read_pickle(io.BytesIO(path.read_bytes()), sizes=None, any_device=True),
    "image_head": lambda path: head_of(path.read_bytes()),
    "safetensors": _safetensors,
    "bounded_json": lambda path: bounded_json.loads(path.read_bytes()),
    "expressions": _expressions,
    "model": _model,
    "keras": _model,
    "pt2": _model,
    "weights": _weights,
    "npz": _dataset,
    "image_folder": _dataset,
    "text_archive": lambda path: admit_dataset(path, TOKENIZED, max_inflated_bytes=GIB),
}
