"""The state of a training between epochs, on disk: a run that was killed goes on to the same weights."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from worker.engine.checkpoints import UNFINISHED, Checkpoints

SLOTS = 2
"""Tensors are written by turns under so many names: those that the JSON refers to are never being replaced."""


@dataclass
class Reached:
    """How far a training has come, besides its tensors."""

    epoch: int = 0
    """Epochs taken."""
    best_epoch: int = 0
    history: list[dict[str, float | None]] = field(default_factory=list)
    ended: bool = False
    scaler: dict[str, Any] = field(default_factory=dict)


def tensors_of(*modules: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, themselves and not copies."""
    return {
        f"{number}.{name}": tensor
        for number, module in enumerate(modules)
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


@torch.no_grad()
def restore(into: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of the same name."""
    for name, tensor in into.items():
        tensor.copy_(values[name])


def digest(tensors: Mapping[str, Tensor], *parts: str) -> str:
    """SHA-256, shortened, of what decides a training: the weights it begins with and everything named in `parts`."""
    seen = hashlib.sha256("\n".join(parts).encode())
    for name, tensor in tensors.items():
        seen.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        seen.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return seen.hexdigest()[:16]


class TrainingCheckpoint:
    """Keeps and finds the state of one training: `unfinished-KEY.json` and the tensors it refers to."""

    def __init__(self, checkpoints: Checkpoints | None, key: str) -> None:
        """Nothing is kept, and nothing found, without `checkpoints`."""
        self._checkpoints, self._name, self._kept = checkpoints, f"{UNFINISHED}{key}", 0

    def keep(self, reached: Reached, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Keep groups of tensors, then what describes them."""
        if self._checkpoints is None:
            return
        slot = f"{self._name}-{self._kept % SLOTS}.safetensors"
        flat = {
            f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in copied(tensors).items()
        }
        metadata = {"epoch": str(reached.epoch)}
        self._checkpoints.keep(slot, lambda path: save_file(flat, path, metadata))
        self._checkpoints.keep_json(f"{self._name}.json", {"tensors": slot, "reached": asdict(reached)})
        self._kept += 1

    def find(self) -> tuple[Reached, dict[str, dict[str, Tensor]]] | None:
        """What an earlier attempt kept last, if that is complete."""
        if self._checkpoints is None or (described := self._checkpoints.find_json(f"{self._name}.json")) is None:
            return None
        path = self._checkpoints.find(described["tensors"])
        if path is None:
            return None
        reached = Reached(**described["reached"])
        groups: dict[str, dict[str, Tensor]] = {}
        with safe_open(path, "pt") as file:
            if file.metadata() != {"epoch": str(reached.epoch)}:
                return None  # the two files are not from the same epoch: one of them was lost on the way
            for key in file.keys():  # noqa: SIM118  # not a mapping
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
        self._kept = 1 + int(described["tensors"].removesuffix(".safetensors")[-1])
        return reached, groups


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments, by parameter number and name."""
    return {
        f"{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put moments back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
