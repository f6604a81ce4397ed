"""Networks that are known by name: made anew, or with uploaded weights, and exported as any uploaded program is.

The input's batch stays dynamic; the program is in eval mode, undecomposed, with the names of the contract.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.overrides import TorchFunctionMode

from app.admission.architectures import network, signature
from app.admission.stored import StoredTensor
from app.admission.weights import stored_weights
from app.spec.architecture import Architecture
from worker.engine.errors import LoadFailed
from worker.engine.torch_program.program import Program, forget_source, quiet
from worker.engine.torch_program.storages import read_tensor

EXAMPLE_ROWS = 2
"""The fewest that the exporter does not take for a constant."""
BATCH = Dim("batch", min=1)
WITH_AUXILIARY_HEADS = frozenset({"googlenet", "inception_v3"})
"""They train with extra heads, which do not run in eval mode and are left out."""
_kept: list[torch.library.Library] = []


def torchvision() -> ModuleType:
    """The package, imported even where its wheel is linked to CUDA and torch is not.

    Such a wheel fails on import, because its C++ operators are not registered, with "operator torchvision::nms does
    not exist": its Python part only wants to attach a fake implementation to them. Declared, they are enough for
    everything that does not call them; no network here does.
    """
    try:
        import torchvision as package
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # the definitions go with the object
        import torchvision as package
    return package


def build(architecture: Architecture, seed: int) -> Program:
    """The network with torchvision's random start, the same for the same seed.

    Raises `UnknownArchitecture` or `ArchitectureUnfit` for a network, argument or input that does not exist.
    """
    network(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _exported(construct(architecture), architecture)


def load_weights(architecture: Architecture, path: Path) -> Program:
    """The network with the weights of a `.safetensors` or `.pth` file that admission has accepted.

    Floats of another precision become float32. Raises what admission raises, and `LoadFailed`.
    """
    with path.open("rb") as file:
        stored = stored_weights(file, path.stat().st_size, architecture)
    with WithoutStorage():
        module = construct(architecture, initialised=False)
    wanted = network(architecture).tensors
    tensors = {
        name: read_tensor(path, tensor).to(_dtype(module, name))
        for name, tensor in stored.items()
        if wanted[name].is_loaded
    }
    _require_finite(tensors, stored)
    try:
        module.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise LoadFailed(f"The weights do not fit {architecture.architecture}.") from error
    return _exported(module, architecture)


def construct(architecture: Architecture, *, initialised: bool = True) -> nn.Module:
    """The network as torchvision makes it, in eval mode."""
    name, given = architecture.network, architecture.kwargs.model_dump(exclude_none=True)
    side = architecture.input.shape[1]
    if name.startswith("vit_"):
        given["image_size"] = side
    if name.startswith("maxvit_"):
        given["input_size"] = (side, side)
    if name in WITH_AUXILIARY_HEADS:
        given |= {"aux_logits": False, "init_weights": initialised}
    made: nn.Module = torchvision().models.get_model(name, weights=None, **given)
    return made.eval()


class WithoutStorage(TorchFunctionMode):
    """Makes modules whose parameters have a shape and no values, so that none are drawn only to be replaced.

    `torch.device("meta")` would do it for every tensor; RegNet computes its widths with some.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer `torch.empty`, with which every layer makes its parameters, by a tensor on `meta`."""
        given = dict(kwargs or {})
        if func is torch.empty:
            given["device"] = "meta"
        return func(*args, **given)


def _exported(module: nn.Module, architecture: Architecture) -> Program:
    example = torch.zeros(EXAMPLE_ROWS, *architecture.input.shape)
    with quiet():
        exported = torch.export.export(module, (example,), dynamic_shapes=({0: BATCH},))
    return Program(forget_source(exported), signature(architecture))


def _dtype(module: nn.Module, name: str) -> torch.dtype:
    parent, _, leaf = name.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(parent), leaf)
    return tensor.dtype


def _require_finite(tensors: dict[str, Tensor], stored: dict[str, StoredTensor]) -> None:
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise LoadFailed(
            f"Weight {broken[0]!r} ({stored[broken[0]].dtype}) holds NaN or infinite values.",
            remedy="Train it again, or save a checkpoint from before it diverged.",
        )
