"""Convolutions of few groups lose the same channels in each; those of many lose groups."""

import pytest
import torch
from torch import Tensor, nn

from tests.support.engine.pruned_networks import module, proven

IMAGE = {"image": torch.zeros(2, 3, 8, 8)}


def forward(self: nn.Module, image: Tensor) -> Tensor:
    return self.head(self.middle(self.stem(image).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "groups", "weight"),
    [
        (nn.Conv2d, 2, (24, 12, 3, 3)),
        (nn.Conv2d, 3, (24, 8, 3, 3)),
        (nn.Conv2d, 4, (24, 6, 3, 3)),
        (nn.Conv2d, 6, (24, 8, 3, 3)),
        (nn.ConvTranspose2d, 2, (24, 12, 3, 3)),
        (nn.ConvTranspose2d, 4, (24, 6, 3, 3)),
        (nn.ConvTranspose2d, 6, (24, 8, 3, 3)),
    ],
)
def test_half_of_the_channels_go(kind: type[nn.Module], groups: int, weight: tuple[int, ...]) -> None:
    network = module(forward, stem=nn.Conv2d(3, 48, 1), middle=kind(48, 48, 3, groups=groups), head=nn.Linear(48, 5))
    found = proven(network, IMAGE)

    assert found.shapes["middle.weight"] == weight
    assert found.shapes["stem.weight"] == (24, 3, 1, 1)
    assert found.shapes["head.weight"] == (5, 24)


def test_a_shuffle_between_two_of_them_ties_all_channels() -> None:
    """ShuffleNet's unit: every channel of one group is in another group behind it."""

    def shuffled(self: nn.Module, image: Tensor) -> Tensor:
        return self.head(self.b(self.shuffle(self.a(self.stem(image)).relu())).relu().mean((2, 3)))

    a, b = nn.Conv2d(48, 24, 1, groups=3), nn.Conv2d(24, 48, 1, groups=3)
    network = module(shuffled, stem=nn.Conv2d(3, 48, 1), a=a, b=b, shuffle=nn.ChannelShuffle(3), head=nn.Linear(48, 5))
    found = proven(network, IMAGE)

    assert found.shapes["a.weight"] == (24, 8, 1, 1)
    assert found.shapes["b.weight"] == (24, 8, 1, 1)


@pytest.mark.parametrize("out", [2, 32])
def test_a_group_of_one_channel_is_a_channel(out: int) -> None:
    network = module(forward, stem=nn.Conv2d(3, 2, 1), middle=nn.Conv2d(2, out, 3, groups=2), head=nn.Linear(out, 5))
    found = proven(network, IMAGE)

    assert found.shapes["middle.weight"] == (out // 2, 1, 3, 3)


def test_a_norm_of_as_many_groups_keeps_them_whole() -> None:
    def normed(self: nn.Module, image: Tensor) -> Tensor:
        return self.head(self.last(self.norm(self.middle(self.stem(image).relu())).relu()).relu().mean((2, 3)))

    parts = {"middle": nn.Conv2d(48, 48, 3, groups=2), "norm": nn.GroupNorm(2, 48), "last": nn.Conv2d(48, 32, 1)}
    found = proven(module(normed, stem=nn.Conv2d(3, 48, 1), head=nn.Linear(32, 5), **parts), IMAGE)

    assert found.shapes["middle.weight"] == (48, 12, 3, 3)
    assert found.shapes["last.weight"] == (16, 48, 1, 1)
