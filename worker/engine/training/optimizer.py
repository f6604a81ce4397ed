"""What is trained, by which optimizer, at which learning rate."""

import math
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from app.spec.training import Training

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""Those to train, or groups of them with `lr` and `weight_decay` of their own, as optimizers take them."""


def parameter_groups(
    modules: tuple[nn.Module, ...], given: Parameters | None, config: Training
) -> list[dict[str, Any]]:
    """What to train: weights with decay; biases and scales, which have one axis, without."""
    if given is None:
        given = [weight for module in modules for weight in module.parameters() if weight.is_floating_point()]
    listed: list[Any] = list(given)
    if not listed or isinstance(listed[0], dict):
        groups = [{**group, "params": list(group["params"])} for group in listed]
    else:
        matrices = [weight for weight in listed if weight.ndim > 1]
        others = [weight for weight in listed if weight.ndim <= 1]
        decayed = {"params": matrices, "weight_decay": config.weight_decay}
        groups = [group for group in (decayed, {"params": others, "weight_decay": 0.0}) if group["params"]]
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    return groups


def optimizer_of(groups: list[dict[str, Any]], config: Training) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum."""
    # Copies: optimizers write their state into the groups they are given.
    copies = [dict(group) for group in groups]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            copies,
            config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.momentum > 0,
        )
    return torch.optim.AdamW(copies, config.learning_rate, weight_decay=config.weight_decay)


def rate_factor(config: Training, epoch: float) -> float:
    """Share of the learning rate after so many epochs, counted in fractions."""
    warmup = config.warmup_epochs
    if epoch < warmup:
        return (epoch + 1e-3) / warmup if epoch == 0 else epoch / warmup
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * (epoch - warmup) / (config.epochs - warmup))) / 2
    if config.schedule == "step":
        return config.decay_factor ** int(epoch // config.decay_epochs)
    return 1.0


def masks(module: nn.Module, sparse: Collection[str]) -> list[tuple[Tensor, Tensor]]:
    """Pruned parameters with 1 where a weight is left and 0 where it was removed."""
    parameters = dict(module.named_parameters())
    pruned = [parameters[name] for name in sorted(sparse) if name in parameters]
    return [(parameter, (parameter != 0).to(parameter.dtype)) for parameter in pruned]
