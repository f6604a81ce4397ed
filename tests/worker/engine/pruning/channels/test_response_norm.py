"""Sums and means over channels lose those that are zero where they are removed, and no others."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.engine.pruned_networks import module, proven

IMAGE = {"image": torch.zeros(2, 3, 8, 8)}


def over_images(self: nn.Module, image: Tensor) -> Tensor:
    """ConvNeXt V2's, as timm writes it."""
    size = image.norm(p=2, dim=(2, 3), keepdim=True)
    ratio = size / (size.mean(dim=1, keepdim=True) + 1e-6)
    return image + torch.addcmul(self.shift.view(1, -1, 1, 1), self.scale.view(1, -1, 1, 1), image * ratio)


def over_tokens(self: nn.Module, image: Tensor) -> Tensor:
    """The paper's, channels last."""
    tokens = image.permute(0, 2, 3, 1)
    size = torch.linalg.vector_norm(tokens, dim=(1, 2), keepdim=True)
    ratio = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
    return (self.scale * (tokens * ratio) + self.shift + tokens).permute(0, 3, 1, 2)


def unit_length(_: nn.Module, image: Tensor) -> Tensor:
    return nn.functional.normalize(image, dim=1)


def centred(_: nn.Module, image: Tensor) -> Tensor:
    return image - image.mean(1, keepdim=True)


def shares(_: nn.Module, image: Tensor) -> Tensor:
    return image / (image.abs().sum(1, keepdim=True) + 1)


def gated_by_all(_: nn.Module, image: Tensor) -> Tensor:
    return image * torch.sigmoid(image.mean((1, 2, 3), keepdim=True))


def network(function: Callable, activation: Callable) -> nn.Module:
    def forward(self: nn.Module, image: Tensor) -> Tensor:
        return self.head(self.last(function(self, activation(self.norm(self.stem(image))))).relu().mean((2, 3)))

    parts = {"norm": nn.BatchNorm2d(32), "last": nn.Conv2d(32, 16, 1), "head": nn.Linear(16, 5)}
    scales = {"scale": nn.Parameter(torch.rand(32) + 0.5), "shift": nn.Parameter(torch.rand(32))}
    return module(forward, stem=nn.Conv2d(3, 32, 3, padding=1), **parts, **scales)


@pytest.mark.parametrize("activation", [torch.relu, nn.functional.gelu, torch.tanh])
@pytest.mark.parametrize("function", [over_images, over_tokens, unit_length, centred, shares, gated_by_all])
def test_zeros_add_nothing(function: Callable, activation: Callable) -> None:
    found = proven(network(function, activation), IMAGE)

    assert found.shapes["stem.weight"] == (16, 3, 3, 3)
    assert found.shapes["last.weight"] == (8, 16, 1, 1)
    assert found.whys == {}


@pytest.mark.parametrize("function", [over_images, shares, centred])
@pytest.mark.parametrize("activation", [torch.sigmoid, torch.exp, torch.cos, lambda image: image + 1])
def test_channels_that_are_not_zero_stay(function: Callable, activation: Callable) -> None:
    found = proven(network(function, activation), IMAGE)

    assert found.shapes["stem.weight"] == (32, 3, 3, 3)
    assert found.shapes["last.weight"] == (8, 32, 1, 1)
    assert [set(layers) for layers in found.whys.values()] == [{"stem"}]


@pytest.mark.parametrize(
    "function",
    [
        lambda _, image: image * torch.rsqrt(image.pow(2).mean(1, keepdim=True) + 1e-6),
        lambda _, image: image - image.amax(1, keepdim=True),
        lambda _, image: image / image.std(1, keepdim=True),
    ],
)
def test_other_statistics_keep_their_channels(function: Callable) -> None:
    found = proven(network(function, torch.relu), IMAGE)

    assert found.shapes["stem.weight"] == (32, 3, 3, 3)


def test_a_second_pruning_rescales_the_mean_again() -> None:
    once = proven(network(over_images, torch.relu), IMAGE)
    twice = proven(once.smaller, IMAGE)

    assert twice.shapes["stem.weight"] == (8, 3, 3, 3)
