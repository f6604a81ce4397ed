"""A digits network whose weights have two values in each channel: all of them lie at the ends of an 8-bit grid."""

from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from examples import digits

WIDTH = 16


class TwoValues(nn.Module):
    """Each weight as its sign times its channel's mean size; gradients pass as if nothing had happened."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        size = weight.abs().flatten(1).mean(1).reshape(-1, *[1] * (weight.ndim - 1))
        return weight + (weight.sign() * size - weight).detach()


def save(folder: Path) -> None:
    """Train it, and write digits.onnx and digits.npz."""
    torch.set_num_threads(1)
    network = digits.digits_cnn(seed=0, width=WIDTH)
    layers = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", TwoValues())
    digits.trained(network)
    for layer in layers:
        parametrize.remove_parametrizations(layer, "weight")
    digits.export_onnx(network, folder / "digits.onnx")
    digits.save_dataset(folder / "digits.npz")
