"""Where a training computes: modules on the device that trains, and back on the CPU afterwards."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate

from app.spec.training import Training
from worker.engine.context import Context


@dataclass(frozen=True)
class Precision:
    """In what a training computes: float16 where that is safe, if asked for and on a GPU, else float32."""

    device: Literal["cpu", "cuda"]
    half: bool

    @classmethod
    def of(cls, config: Training, device: Literal["cpu", "cuda"]) -> "Precision":
        """As planned, as far as the device gains by it: CPUs compute float16 more slowly than float32."""
        return cls(device, config.mixed_precision and device == "cuda")

    def autocast(self) -> AbstractContextManager[Any]:
        """Have operators within the block compute in this precision."""
        return torch.autocast(self.device, torch.float16) if self.half else nullcontext()

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps the gradients of float16 from vanishing; does nothing in float32."""
        return torch.amp.GradScaler(self.device, enabled=self.half)

    def notes(self, config: Training) -> tuple[str, ...]:
        """What the reader must know."""
        if not config.mixed_precision or self.half:
            return ()
        return ("mixed_precision was not used, for want of a GPU: the model was trained in float32.",)


def random_devices(context: Context) -> list[int]:
    """GPUs whose random state a training leaves as it was."""
    return [torch.cuda.current_device()] if context.device == "cuda" else []


@contextmanager
def placed(modules: tuple[nn.Module, ...], device: Literal["cpu", "cuda"]) -> Iterator[None]:
    """Have the modules on the device within the block; devices that were baked into graphs follow."""
    move(modules, device)
    try:
        yield
    finally:
        move(modules, "cpu")


def move(modules: tuple[nn.Module, ...], device: Literal["cpu", "cuda"]) -> None:
    """Move modules to a device, and have operators of their graphs that were exported for another one follow."""
    for module in modules:
        module.to(device)
        for graph in module.modules():
            if isinstance(graph, fx.GraphModule):
                _bake_device(graph, torch.device(device))


def _bake_device(graph: fx.GraphModule, device: torch.device) -> None:
    """Replace the devices in an operator's arguments, such as those of `zeros` or `to`."""

    def replaced(argument: Any) -> Any:
        return device if isinstance(argument, torch.device) else argument

    for node in graph.graph.nodes:
        node.args, node.kwargs = map_aggregate(node.args, replaced), map_aggregate(node.kwargs, replaced)
    graph.recompile()
