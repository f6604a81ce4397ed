"""Admission of models: what the file is decides who reads it."""

import logging
from pathlib import Path
from typing import BinaryIO

from app.admission.bundle import MAX_GRAPH_BYTES, ExternalData, graph_members, read_bundle, tidy
from app.admission.defects import DEFECTS
from app.admission.errors import (
    EXPORT,
    AdmissionError,
    Broken,
    EmptyUpload,
    Inflating,
    MalformedModel,
    TooLarge,
    Unsafe,
    UnsafePickle,
    UnsupportedModel,
)
from app.admission.keras import is_keras, read_h5, read_keras
from app.admission.member_names import require_safe_name
from app.admission.onnx import read_onnx
from app.admission.pt2 import is_legacy_pt2, is_pt2, read_pt2, refuse_legacy_pt2
from app.admission.sniff import Kind, sniff
from app.admission.tarred import read_tar
from app.admission.weights import admit_weights
from app.admission.zipped import Archive
from app.spec.architecture import Architecture
from app.spec.signature import ModelInfo

log = logging.getLogger(__name__)


class TorchScriptRejected(AdmissionError):
    """TorchScript runs code while it is loaded, so it is not accepted."""

    code = "model.torchscript_rejected"
    status = 415
    remedy = "Export the original module: torch.export.save(torch.export.export(model.eval(), args), 'model.pt2')."


class ModelBomb(AdmissionError):
    """Compressed data in the model would grow beyond what is accepted."""

    code = "model.decompression_bomb"
    remedy = "Send the archive without compression."


class ArchitectureNotNeeded(AdmissionError):
    """An architecture was declared for a file that brings its own graph."""

    code = "architecture.not_needed"
    remedy = "Leave `architecture` out: it is for .safetensors and .pth files, which hold weights only."


DECLARE = (
    'Declare what the weights are of, \'architecture={"architecture": "torchvision:resnet50"}\' (docs/models.md); or '
    "send an ONNX file, or a .pt2 written by torch.export.save (torch >= 2.8)."
)
_KINDS: dict[Kind, tuple[str, str]] = {
    "pickle": ("The file is a pickle, which runs code when it is loaded.", EXPORT),
    "safetensors": ("The file is in the safetensors format: weights without a graph.", DECLARE),
    "pth": ("The file was written by torch.save: weights without a graph, or a pickle of a module.", DECLARE),
    "ort": ("The file is in ONNX Runtime's own format, which is made for one runtime.", "Send the .onnx file."),
    "tflite": ("The file is a TensorFlow Lite model.", "Convert the original model to ONNX with tf2onnx."),
    "tensorrt": ("The file is a TensorRT engine, built for one GPU.", "Send the ONNX file it was built from."),
    "compressed": ("The file is compressed as a whole.", "Unpack it; a bundle is an uncompressed tar, or a zip."),
    "npy": ("The file is an array.", EXPORT),
    "image": ("The file is an image.", EXPORT),
    "parquet": ("The file is a Parquet data set.", EXPORT),
    "unknown": ("The file is none of the formats that are accepted.", EXPORT),
}


def admit_model(path: Path, *, max_inflated_bytes: int, architecture: Architecture | None = None) -> ModelInfo:
    """Read the model at `path`, without loading it, and say what is inside.

    Accepts ONNX files, `.pt2` archives (torch >= 2.8), a zip or tar of an ONNX file with its external tensors, and
    Keras models (`.keras`, `.h5`);
    with an `architecture`, its weights as `.safetensors` or `.pth`. Raises a subclass of `AdmissionError`.
    """
    try:
        with path.open("rb") as file:
            info = _read(file, path.stat().st_size, max_inflated_bytes, architecture)
    except Broken as error:
        raise MalformedModel(f"The model is damaged: {error}.") from error
    except Unsafe as error:
        raise UnsafePickle(str(error)) from error
    except Inflating as error:
        raise ModelBomb(f"The model is refused: {error}.") from error
    except DEFECTS as error:
        log.exception("a model was refused by a defect of its reader")
        raise MalformedModel("The model is damaged: it does not follow its format.") from error
    if architecture is not None and info.architecture is None:
        raise ArchitectureNotNeeded(f"An architecture is declared for a file that holds a graph ({info.format}).")
    return info


def _read(file: BinaryIO, size: int, max_inflated_bytes: int, architecture: Architecture | None) -> ModelInfo:
    kind = sniff(file)
    if kind == "empty":
        raise EmptyUpload("The model has no bytes.")
    if size > max_inflated_bytes:
        raise TooLarge(f"The model has {size} bytes, {max_inflated_bytes} are allowed.", remedy="Send a smaller model.")
    if kind == "zip":
        return _read_zip(file, size, max_inflated_bytes, architecture)
    if kind == "tar":
        return read_bundle(file, tidy(read_tar(file, size)), None)
    if kind == "onnx":
        return _read_onnx(file, size)
    if kind == "hdf5":
        return read_h5(file, size)
    if kind in {"safetensors", "pth"} and architecture is not None:
        return admit_weights(file, size, architecture)
    detail, remedy = _KINDS[kind]
    raise UnsupportedModel(detail, remedy=remedy)


def _read_onnx(file: BinaryIO, size: int) -> ModelInfo:
    if size > MAX_GRAPH_BYTES:
        raise Broken("an ONNX file ends below 2 GiB")
    onnx = read_onnx(file, 0, size)
    if onnx.externals:
        first = onnx.externals[0]
        raise ExternalData(f"Tensor {first.tensor[:80]!r} is to be found in another file, {first.location[:80]!r}.")
    return onnx.info


def _read_zip(file: BinaryIO, size: int, max_inflated_bytes: int, architecture: Architecture | None) -> ModelInfo:
    archive = Archive(file, 0, size, max_inflated_bytes=max_inflated_bytes, dotted=True)
    names = archive.members
    inner = {name.partition("/")[2] for name in names}
    if is_legacy_pt2(names):
        refuse_legacy_pt2(names)
    if is_pt2(inner):
        for name in names:
            require_safe_name(name)
        return read_pt2(archive)
    if graph_members(bundled := tidy(names)):
        return read_bundle(file, bundled, archive)
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise TorchScriptRejected("The file is a TorchScript archive.")
    if "data.pkl" in inner and architecture is not None:
        return admit_weights(file, size, architecture)
    if "data.pkl" in inner:
        detail, remedy = _KINDS["pth"]
        raise UnsupportedModel(detail, remedy=remedy)
    if is_keras(names):
        for name in names:
            require_safe_name(name)
        return read_keras(archive)
    raise UnsupportedModel("The archive holds neither an exported program nor an ONNX file.")
