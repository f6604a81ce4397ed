"""Writes what admission knows about torchvision's networks: `python -m worker.engine.torch_program.architecture_table`.

Every classification network is made, without storage, at several sizes; a dimension that follows the number of
classes or the size of the picture is written as "classes" or "tokens". A test compares the file with the torchvision
that is installed.
"""

import gzip
import inspect
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from app.admission.architectures import CLASSES, TABLE, TOKENS
from app.spec.architecture import Architecture, ArchitectureArguments
from worker.engine.torch_program.architectures import WITH_AUXILIARY_HEADS, WithoutStorage, construct, torchvision

FEW, MANY = 7, 11
"""Two numbers of classes that no network has as a width."""
DERIVED = frozenset({"relative_position_index", "relative_coords_table"})
"""Buffers that follow from the architecture; the ones in a file are not used."""


def names() -> list[str]:
    """Torchvision's classification networks."""
    package = torchvision()
    networks: list[str] = package.models.list_models(module=package.models)
    return networks


def entry(name: str) -> dict[str, Any]:
    """Everything that admission must know about one network."""
    weights = torchvision().models.get_model_weights(name)
    few = _made(name)
    patch = getattr(few, "patch_size", None) if name.startswith("vit_") else None
    multiple = patch or (224 if name.startswith("maxvit_") else 1)
    return {
        "name": name,
        "arguments": [argument for argument in ArchitectureArguments.model_fields if _takes(name, argument)],
        "smallest": multiple if multiple > 1 else _smallest(few),
        "multiple": multiple,
        "square": multiple > 1,
        "tensors": dict(_tensors(name, few)),
        "weights": {
            trained.name: trained.url.rpartition("/")[2] for trained in weights if trained.meta.get("categories")
        },
    }


def table() -> bytes:
    """The whole file: a line of JSON about torchvision, then one per network, compressed."""
    lines = [{"torchvision": torchvision().__version__.partition("+")[0], "names": names()}, *map(entry, names())]
    text = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
    return gzip.compress(text.encode(), mtime=0)


def _made(name: str, classes: int = FEW, **more: Any) -> nn.Module:
    asked = {"architecture": f"torchvision:{name}", "kwargs": {"num_classes": classes}, **more}
    with WithoutStorage():
        return construct(Architecture.model_validate(asked), initialised=False)


def _takes(name: str, argument: str) -> bool:
    """Whether the network has the argument, and its maker lets it be set. Some makers swallow what they do not know."""
    value = {"num_classes": FEW, "transform_input": True}.get(argument, 0.125)
    with WithoutStorage():
        try:
            made = torchvision().models.get_model(name, weights=None, **_lean(name), **{argument: value})
        except TypeError:
            return False
    return argument in inspect.signature(type(made).__init__).parameters


def _smallest(module: nn.Module) -> int:
    """Pixels of the smallest square picture that passes through, found by halving; nothing is computed."""
    module = module.to("meta")
    least, most = 0, 224
    while most - least > 1:
        side = (least + most) // 2
        try:
            module(torch.empty(2, 3, side, side, device="meta"))
            most = side
        except (RuntimeError, ValueError):  # of a kernel or pool that is larger than what is left of the picture
            least = side
    return most


def _lean(name: str) -> dict[str, Any]:
    return {"init_weights": False} if name in WITH_AUXILIARY_HEADS else {}


def _tensors(name: str, few: nn.Module) -> Iterator[tuple[str, Any]]:
    many = _made(name, MANY).state_dict()
    larger = _made(name, FEW, input={"shape": [3, 448, 448]}).state_dict()
    parameters = {key for key, _ in few.named_parameters()}
    for key, tensor in few.state_dict().items():
        shape: list[int | str] = list(tensor.shape)
        for axis, size in enumerate(tensor.shape):
            if many[key].shape[axis] != size:
                shape[axis] = CLASSES
            elif larger[key].shape[axis] != size:
                shape[axis] = TOKENS
        yield key, [_role(key, parameters), str(tensor.dtype).removeprefix("torch."), shape]
    if name in WITH_AUXILIARY_HEADS:
        yield from _auxiliary(name, few.state_dict().keys())


def _role(key: str, parameters: set[str]) -> str:
    leaf = key.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return "counter"
    return "derived" if leaf in DERIVED else "parameter" if key in parameters else "buffer"


def _auxiliary(name: str, used: Any) -> Iterator[tuple[str, Any]]:
    """The heads that only training has: a file may hold them."""
    with WithoutStorage():
        whole = torchvision().models.get_model(name, weights=None, num_classes=FEW, **_lean(name)).state_dict()
    for key, tensor in whole.items():
        if key not in used:
            shape = [CLASSES if size == FEW and axis == 0 else size for axis, size in enumerate(tensor.shape)]
            yield key, ["unused", str(tensor.dtype).removeprefix("torch."), shape]


if __name__ == "__main__":
    TABLE.write_bytes(table())
