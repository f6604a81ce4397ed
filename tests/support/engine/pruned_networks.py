"""Networks as programs, and what pruning them comes to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from app.spec.prune import PruneChannels
from app.spec.signature import Dimension, Signature, TensorSpec
from tests.support.engine import zoo
from tests.support.engine.orders import context
from worker.engine.context import Changed, Context
from worker.engine.model import Model, new_folder
from worker.engine.passes.prune_channels import prune_channels
from worker.engine.pruning.channels.analysis import Channels, analyse
from worker.engine.pruning.channels.choosing import candidates, choose
from worker.engine.pruning.channels.exactness import Proof, require_exact
from worker.engine.pruning.channels.importance import by_norm
from worker.engine.pruning.channels.reasons import OUTPUT
from worker.engine.pruning.channels.removal import masked, removed
from worker.engine.torch_program.program import Program, quiet

BATCH = Dimension(name="batch", min=1, max=4096)


def as_program(network: nn.Module, inputs: Mapping[str, Tensor], outputs: tuple[str, ...] = ("logits",)) -> Program:
    """The network exported with a varying batch; `inputs` are examples with two rows."""
    with quiet():
        exported = zoo.program(network, *inputs.values())
    with torch.no_grad():
        made = network(*inputs.values())
    values = list(made.values()) if isinstance(made, dict) else [made] if isinstance(made, Tensor) else list(made)
    return Program(
        exported,
        Signature(
            inputs=tuple(_spec(name, tensor) for name, tensor in inputs.items()),
            outputs=tuple(_spec(name, tensor) for name, tensor in zip(outputs, values, strict=True)),
        ),
    )


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    return TensorSpec(name=name, dtype=str(tensor.dtype).removeprefix("torch."), shape=(BATCH, *tensor.shape[1:]))


def torchvision_program(name: str, size: int = 64) -> Program:
    """A network of torchvision with random weights, in which every parameter shows at the output."""
    torch.manual_seed(0)
    arguments = {"image_size": size} if name.startswith("vit") else {}
    return _settled(getattr(zoo.torchvision().models, name)(weights=None, **arguments), size)


def family_program(name: str) -> Program:
    """The smallest network of one of `FAMILIES`, for images of 32 x 32, of torchvision's own blocks."""
    torch.manual_seed(0)
    return _settled(FAMILIES[name](zoo.torchvision().models), 32, scale=5.0)


FAMILIES: Mapping[str, Callable[[Any], nn.Module]] = {
    "resnet": lambda models: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10),
    "bottleneck": lambda models: models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=10),
    "densenet": lambda models: models.DenseNet(8, (2, 2, 2, 2), 16, num_classes=10),
    "convnext": lambda models: models.ConvNeXt(
        [models.convnext.CNBlockConfig(32, 64, 2), models.convnext.CNBlockConfig(64, None, 2)], num_classes=10
    ),
    "mobilenet": lambda models: models.MobileNetV2(num_classes=10, width_mult=0.25),
    "efficientnet": lambda models: models.EfficientNet(
        [models.efficientnet.MBConvConfig(*block) for block in ((1, 3, 1, 16, 16, 1), (4, 3, 2, 16, 24, 2))],
        0.0,
        num_classes=10,
    ),
    "transformer": lambda models: models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=10),
}


def _settled(network: nn.Module, size: int, scale: float = 0.2) -> Program:
    """The network as a program, its weights such that all of them matter.

    torchvision starts a vision transformer's head at zero and ConvNeXt's layer scales at 1e-6: with those, whatever is
    done to the layers before makes no difference. Without the statistics of some images in its batch norms a deep
    network's values would vanish or explode.
    """
    for parameter_name, parameter in network.eval().named_parameters():
        if "layer_scale" in parameter_name or parameter_name.startswith("heads.head"):
            nn.init.normal_(parameter, std=scale)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, size, size))
    return as_program(network.eval(), {"image": torch.zeros(2, 3, size, size)})


@dataclass(frozen=True)
class Halved:
    """A program before and after, without half of the channels of every layer."""

    channels: Channels
    smaller: Program
    difference: float
    """From the masked one, relative to the largest output."""
    effect: float
    """Of masking on the outputs, in the same unit: a difference is only worth something where this is large."""

    @property
    def parameters_left(self) -> float:
        return parameters(self.smaller) / parameters(self.channels.program)


def halved(program: Program, ratio: float = 0.5, **step: object) -> Halved:
    """Remove channels by their norm, and compare with the masked program on rows that the engine has not seen."""
    channels = analyse(program)
    asked = PruneChannels.model_validate({"ratio": ratio, "round_to": 1, **step})
    pruned_mask = choose(channels, candidates(channels, by_norm(channels, 2), asked), asked)
    smaller = program.rebuilt(removed(channels, pruned_mask))
    example = program.example(rows=5, seed=7)
    with torch.inference_mode():
        dense = program.outputs_of(program.exported.module(check_guards=False), example)
        zeroed = program.outputs_of(masked(channels, pruned_mask), example)
        outputs = smaller.outputs_of(smaller.exported.module(check_guards=False), example)
    return Halved(channels, smaller, _apart(outputs, zeroed), _apart(dense, zeroed))


def _apart(ones: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    return max(float((ones[name] - others[name]).abs().max() / others[name].abs().max()) for name in others)


def parameters(program: Program) -> int:
    return sum(parameter.numel() for parameter in program.exported.parameters())


def as_model(program: Program, folder: Path) -> Model:
    return Model(program, program.signature, new_folder(folder / "scratch"))


def pruned(program: Program, folder: Path, using: Context | None = None, **step: object) -> Changed:
    """The step as a job takes it."""
    return prune_channels(PruneChannels.model_validate(step), as_model(program, folder), using or context(folder))


def module(forward: Callable[..., Any], **parts: Any) -> nn.Module:
    """A network of layers, parameters and (plain tensors) buffers; `forward(self, ...)` names the inputs."""
    made = type("Network", (nn.Module,), {"forward": forward})()
    for name, part in parts.items():
        if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
            made.register_buffer(name, part)
        else:
            setattr(made, name, part)
    return made.eval()


@dataclass(frozen=True)
class Proven:
    """A program that was made smaller, and the engine's own proof that it computes what it must."""

    channels: Channels
    smaller: Program
    proof: Proof

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.smaller.exported.state_dict.items()}

    @property
    def whys(self) -> dict[str, tuple[str, ...]]:
        """What kept which layers whole, but for outputs."""
        return {reason.operator: reason.layers for reason in self.channels.reasons if reason.why != OUTPUT}


def proven(network: nn.Module | Program, inputs: Mapping[str, Tensor], ratio: float = 0.5, **step: object) -> Proven:
    """Remove channels by their norm and prove it; the proof must be one in which errors show.

    The smaller program takes another number of rows, too.
    """
    program = network if isinstance(network, Program) else as_program(network, inputs)
    channels = analyse(program)
    asked = PruneChannels.model_validate({"ratio": ratio, "round_to": 1, **step})
    pruned_mask = choose(channels, candidates(channels, by_norm(channels, 2), asked), asked)
    smaller = program.rebuilt(removed(channels, pruned_mask))
    proof = require_exact(channels, pruned_mask, smaller)
    assert proof.difference < 1e-5 < 0.01 < proof.effect
    smaller.outputs_of(smaller.exported.module(check_guards=False), program.example(rows=5, seed=7))
    return Proven(channels, smaller, proof)
