"""Weights without a graph: read without loading them, and compared with the architecture they are said to be of."""

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from app.admission.architectures import NOT_NEEDED, Network, Wanted, network, signature
from app.admission.errors import MalformedModel, Unsafe, UnsafePickle
from app.admission.pickles import Expanded
from app.admission.pth import STATE_DICT, WeightsMismatch, read_legacy_state_dict, read_state_dict
from app.admission.safetensors import read_safetensors
from app.admission.sniff import sniff
from app.admission.stored import StoredTensor
from app.admission.zipped import Archive
from app.spec.architecture import Architecture
from app.spec.signature import FLOATS, DType, ModelInfo

MAX_NAME = 60
MAX_LISTED = 110
"""Characters of names for each fault of a file; what does not fit is counted."""
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$", re.ASCII)
"""Names as they were before torch 0.4, which torchvision's own files of DenseNet still have."""
WRAPPED = "module."
"""What DataParallel puts in front of every name."""


def stored_weights(file: BinaryIO, size: int, architecture: Architecture) -> dict[str, StoredTensor]:
    """The tensors in a `.safetensors` or `.pth` file of `size` bytes, by their names in the architecture.

    Nothing is unpickled. Raises `Broken`, `Inflating` and subclasses of `AdmissionError`.
    """
    tensors = _read(file, size)
    if architecture.network.startswith("densenet"):
        return {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    return tensors


def _read(file: BinaryIO, size: int) -> dict[str, StoredTensor]:
    try:
        kind = sniff(file)
        if kind == "safetensors":
            return read_safetensors(file, size)
        if kind == "zip":
            return read_state_dict(Archive(file, 0, size, max_inflated_bytes=size))
        return read_legacy_state_dict(file, size)
    except Unsafe as error:
        raise UnsafePickle(str(error), remedy=STATE_DICT) from error
    except Expanded as error:
        raise MalformedModel(
            f"The weights are damaged: {error}.",
            remedy="Save copies: {name: tensor.contiguous() for name, tensor in model.state_dict().items()}.",
        ) from error


def admit_weights(file: BinaryIO, size: int, architecture: Architecture) -> ModelInfo:
    """Check weights against their architecture and describe the model they make.

    Raises what `stored_weights` raises, `UnknownArchitecture`, `ArchitectureUnfit` and `WeightsMismatch`.
    """
    wanted = network(architecture)
    stored = stored_weights(file, size, architecture)
    _require_same(architecture, wanted, stored)
    return ModelInfo(
        format="weights",
        signature=signature(architecture),
        parameters=wanted.parameters,
        nodes=0,
        operators={},
        architecture=architecture,
        warnings=tuple(_warnings(wanted, stored)),
    )


def _require_same(architecture: Architecture, wanted: Network, stored: Mapping[str, StoredTensor]) -> None:
    strange = [name for name in stored if name not in wanted.tensors]
    unlike = {name: want for name, want in wanted.tensors.items() if name in stored and not _fits(stored[name], want)}
    missing = [name for name, want in wanted.tensors.items() if name not in stored and want.role not in NOT_NEEDED]
    faults = {
        "missing": [repr(name) for name in missing],
        "unexpected": [repr(name[:MAX_NAME]) for name in strange],
        "of another shape or type": [
            f"{name!r} ({_kind(stored[name])} instead of {_kind(want)})" for name, want in unlike.items()
        ],
    }
    said = [f"{fault}: {_listed(names)}" for fault, names in faults.items() if names]
    if said:
        detail = f"The weights are not those of {architecture.architecture}; {'; '.join(said)}."
        raise WeightsMismatch(detail, remedy=_remedy(strange))


def _fits(tensor: StoredTensor, wanted: Wanted) -> bool:
    return tensor.shape == wanted.shape and (tensor.dtype in FLOATS) == (wanted.dtype in FLOATS)


def _kind(tensor: StoredTensor | Wanted) -> str:
    return f"{tensor.dtype} {list(tensor.shape)[:6]}"


def _listed(names: list[str]) -> str:
    """As many as a line holds, and how many there are besides."""
    shown: list[str] = []
    for name in names:
        if shown and len(", ".join((*shown, name))) > MAX_LISTED:
            break
        shown.append(name)
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _remedy(strange: list[str]) -> str | None:
    if any(name.startswith(WRAPPED) for name in strange):
        return "Save the network inside of DataParallel: torch.save(model.module.state_dict(), 'weights.pth')."
    return None


def _warnings(wanted: Network, stored: Mapping[str, StoredTensor]) -> Iterator[str]:
    kinds: set[DType] = {
        tensor.dtype for name, tensor in stored.items() if tensor.dtype in FLOATS and wanted.tensors[name].is_loaded
    }
    if other := sorted(kinds - {"float32"}):
        yield f"The weights are {', '.join(other)}; they are computed with in float32."
