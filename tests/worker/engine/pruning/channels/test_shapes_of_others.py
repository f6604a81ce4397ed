"""A shape that is another value's, and copies: what they are taken from goes along."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.engine.pruned_networks import module, proven

SERIES = {"series": torch.zeros(2, 9, 16)}


@pytest.mark.parametrize("name", ["reshape_as", "view_as"])
def test_a_shape_of_another_value(name: str) -> None:
    """As LeViT has it around its batch norms."""

    def forward(self: nn.Module, series: Tensor) -> Tensor:
        hidden = self.a(series)
        normed = getattr(self.norm(hidden.flatten(0, 1)), name)(hidden)
        return self.head(self.b(normed.relu()).relu().mean(1))

    parts = {"a": nn.Linear(16, 64), "norm": nn.BatchNorm1d(64), "b": nn.Linear(64, 16), "head": nn.Linear(16, 4)}
    found = proven(module(forward, **parts), SERIES)

    assert found.shapes["a.weight"] == (32, 16)
    assert found.shapes["norm.weight"] == (32,)


def test_a_shape_that_cannot_shrink_keeps_what_takes_it() -> None:
    def forward(self: nn.Module, series: Tensor) -> Tensor:
        return self.head(self.b(self.a(series).view_as(series).relu().mean(1)).relu())

    parts = {"a": nn.Linear(16, 16), "b": nn.Linear(16, 32), "head": nn.Linear(32, 4)}
    found = proven(module(forward, **parts), SERIES)

    assert found.shapes["a.weight"] == (16, 16)
    assert found.shapes["b.weight"] == (16, 16)


def gate_expanded_as(gate: Tensor, image: Tensor) -> Tensor:
    return gate.expand_as(image) * image


def gate_repeated(gate: Tensor, image: Tensor) -> Tensor:
    return gate.repeat(1, 1, 8, 8) * image


def gate_broadcast_to(gate: Tensor, image: Tensor) -> Tensor:
    return gate.expand(-1, -1, 8, 8) * image


def mask_expanded_as(gate: Tensor, image: Tensor) -> Tensor:
    return gate.mean(1, keepdim=True).sigmoid().expand_as(image) * image


@pytest.mark.parametrize("apply", [gate_expanded_as, gate_repeated, gate_broadcast_to, mask_expanded_as])
def test_a_gate_of_each_channel_grows_to_its_image(apply: Callable) -> None:
    def forward(self: nn.Module, image: Tensor) -> Tensor:
        image = self.stem(image).relu()
        return self.head(self.last(apply(self.gate(image.mean((2, 3), keepdim=True)), image)).relu().mean((2, 3)))

    parts = {"gate": nn.Conv2d(32, 32, 1), "last": nn.Conv2d(32, 16, 1), "head": nn.Linear(16, 5)}
    network = module(forward, stem=nn.Conv2d(3, 32, 3, padding=1), **parts)
    found = proven(network, {"image": torch.zeros(2, 3, 8, 8)})

    assert found.shapes["stem.weight"] == (16, 3, 3, 3)
    assert found.shapes["last.weight"] == (8, 16, 1, 1)


@pytest.mark.parametrize(
    "copied", [lambda hidden: hidden.repeat(1, 1, 3), lambda hidden: hidden.repeat_interleave(3, 2)]
)
def test_every_copy_of_a_channel_goes(copied: Callable) -> None:
    def forward(self: nn.Module, series: Tensor) -> Tensor:
        return self.head(copied(self.a(series).relu()).mean(1))

    found = proven(module(forward, a=nn.Linear(16, 32), head=nn.Linear(96, 4)), SERIES)

    assert found.shapes["a.weight"] == (16, 16)
    assert found.shapes["head.weight"] == (4, 48)
