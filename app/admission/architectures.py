"""What is known about torchvision's networks without torchvision: their weights by name, and what they take.

The table is written by `python -m worker.engine.torch_program.architecture_table` from the pinned torchvision:
gzipped lines of JSON, the first about the table, each other one about a network. Only the line asked for is parsed.
"""

import difflib
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from app.admission.errors import AdmissionError
from app.spec.architecture import Architecture
from app.spec.signature import Dimension, DType, Signature, TensorSpec


class UnknownArchitecture(AdmissionError):
    """The architecture is none of the torchvision networks that are known here."""

    code = "architecture.unknown"
    remedy = "Name a classification network of torchvision, such as torchvision:resnet50; docs/models.md lists them."


class ArchitectureUnfit(AdmissionError):
    """The architecture does not take one of its arguments, or pictures of this size."""

    code = "architecture.unfit"
    remedy = "Declare the arguments and the input that the weights were trained with."


TABLE = Path(__file__).with_name("architectures.jsonl.gz")
CLASSES, TOKENS = "classes", "tokens"
"""Dimensions that follow from the arguments: the number of classes, and a ViT's patches and its class token."""

OUTPUT = "logits"
Role = Literal["parameter", "buffer", "counter", "derived", "unused"]
NOT_NEEDED: frozenset[Role] = frozenset({"counter", "derived", "unused"})
"""A file may leave out batch counters, buffers that follow from the architecture, and heads that only train."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor of the network's state_dict."""

    role: Role
    dtype: DType
    shape: tuple[int, ...]

    @property
    def is_loaded(self) -> bool:
        """Whether its values are taken from a file that holds them."""
        return self.role in {"parameter", "buffer", "counter"}


@dataclass(frozen=True)
class Network:
    """A network with its arguments."""

    tensors: Mapping[str, Wanted]
    weights: Mapping[str, str]
    """Trained weights: the name that torchvision gives them, and the file that holds them."""

    @property
    def parameters(self) -> int:
        """Elements in all parameters."""
        return sum(_elements(tensor.shape) for tensor in self.tensors.values() if tensor.role == "parameter")


def names() -> tuple[str, ...]:
    """The networks that an architecture may name, without "torchvision:"."""
    return tuple(json.loads(next(_lines()))["names"])


def torchvision_version() -> str:
    """The torchvision that the table describes."""
    version: str = json.loads(next(_lines()))["torchvision"]
    return version


def network(architecture: Architecture) -> Network:
    """What an architecture consists of.

    Raises `UnknownArchitecture`, or `ArchitectureUnfit` if it does not take an argument or pictures of that size.
    """
    entry = _entry(architecture.network)
    if entry is None:
        near = difflib.get_close_matches(architecture.network, names(), n=3)
        raise UnknownArchitecture(
            f"There is no {architecture.architecture!r}."
            + (f" Is it {' or '.join(f'torchvision:{name}' for name in near)}?" if near else "")
        )
    _require_taken(architecture, entry)
    _require_size(architecture, entry)
    sizes = {CLASSES: architecture.kwargs.num_classes, TOKENS: 1 + _patches(architecture, entry)}
    tensors = {
        name: Wanted(role, dtype, tuple(sizes.get(size, size) for size in shape))
        for name, (role, dtype, shape) in entry["tensors"].items()
    }
    return Network(tensors, entry["weights"])


def signature(architecture: Architecture) -> Signature:
    """Float32 pictures [batch, 3, height, width] to float32 `logits` [batch, num_classes], for any batch."""
    batch, given = Dimension(name="batch", min=1), architecture.input
    image = TensorSpec(name=given.name, dtype=given.dtype, shape=(batch, *given.shape))
    scores = TensorSpec(name=OUTPUT, dtype="float32", shape=(batch, architecture.kwargs.num_classes))
    return Signature(inputs=(image,), outputs=(scores,))


def _lines() -> Iterator[str]:
    with gzip.open(TABLE, "rt", encoding="utf-8") as lines:
        yield from lines


@lru_cache(maxsize=8)
def _entry(name: str) -> dict[str, Any] | None:
    start = f'{{"name":"{name}",'
    entry = next((line for line in _lines() if line.startswith(start)), None)
    return None if entry is None else json.loads(entry)


def _require_taken(architecture: Architecture, entry: dict[str, Any]) -> None:
    given = architecture.kwargs.model_dump(exclude_none=True)
    if unknown := sorted(given.keys() - set(entry["arguments"])):
        raise ArchitectureUnfit(
            f"{architecture.architecture} takes no {unknown[0]!r}.",
            remedy=f"Its arguments are {', '.join(entry['arguments'])}.",
        )


def _require_size(architecture: Architecture, entry: dict[str, Any]) -> None:
    _, height, width = architecture.input.shape
    if min(height, width) < entry["smallest"]:
        raise ArchitectureUnfit(
            f"{architecture.architecture} takes pictures of {entry['smallest']} pixels or more, not {height} x {width}."
        )
    if entry["square"] and (height != width or height % entry["multiple"]):
        raise ArchitectureUnfit(
            f"{architecture.architecture} takes square pictures whose side is a multiple of {entry['multiple']}, "
            f"not {height} x {width}."
        )


def _patches(architecture: Architecture, entry: dict[str, Any]) -> int:
    _, height, width = architecture.input.shape
    return (height // int(entry["multiple"])) * (width // int(entry["multiple"]))


def _elements(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
