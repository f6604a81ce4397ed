"""A channel goes along with what it is divided by, and the proof does not divide zero by zero."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.engine.pruned_networks import module, proven


def divided(self: nn.Module, features: Tensor) -> Tensor:
    return features / self.each


def snake(self: nn.Module, features: Tensor) -> Tensor:
    """Ziyin et al. 2020, arXiv:2006.08195."""
    return features + torch.sin(features * self.each) ** 2 / self.each


def reciprocal(self: nn.Module, features: Tensor) -> Tensor:
    return features * self.each.reciprocal()


def logarithm(self: nn.Module, features: Tensor) -> Tensor:
    return torch.log(features.abs()) * self.each


def root(self: nn.Module, features: Tensor) -> Tensor:
    return features * torch.rsqrt(features.square()) * self.each


def ratio(self: nn.Module, features: Tensor) -> Tensor:
    return features.abs() * self.each / features.square()


@pytest.mark.parametrize("function", [divided, snake, reciprocal, logarithm, root, ratio])
@pytest.mark.parametrize("kind", [nn.Parameter, Tensor.clone])
def test_a_channel_goes_with_its_number(function: Callable, kind: Callable) -> None:
    def forward(self: nn.Module, image: Tensor) -> Tensor:
        return self.head(torch.relu(self.b(function(self, self.a(image)))).mean((2, 3)))

    parts = {"a": nn.Conv2d(3, 32, 3), "b": nn.Conv2d(32, 16, 1), "head": nn.Linear(16, 5)}
    found = proven(module(forward, **parts, each=kind(torch.rand(32, 1, 1) + 0.5)), {"image": torch.zeros(2, 3, 8, 8)})

    assert found.shapes["each"] == (16, 1, 1)
    assert found.shapes["b.weight"] == (8, 16, 1, 1)
    assert found.whys == {}
