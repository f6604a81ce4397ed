"""Attention heads are counted: rounding to kernels' blocks is for channels."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.engine.pruned_networks import module, proven


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(query, key, value)


def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) * 0.2).softmax(-1) @ value


def flattened(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Rows and heads in one dimension."""
    shape = query.shape
    query, key, value = (one.reshape(-1, *shape[2:]) for one in (query, key, value))
    return torch.bmm((torch.bmm(query, key.transpose(1, 2)) * 0.2).softmax(-1), value).view(shape)


@pytest.mark.parametrize("attention", [fused, by_hand, flattened])
@pytest.mark.parametrize(("heads", "size", "ratio", "left"), [(4, 24, 0.3, 3), (4, 24, 0.5, 2), (3, 20, 0.3, 2)])
def test_whole_heads_go_one_by_one(attention: Callable, heads: int, size: int, ratio: float, left: int) -> None:
    def forward(self: nn.Module, series: Tensor) -> Tensor:
        split = (part(series).unflatten(-1, (heads, size)).transpose(1, 2) for part in (self.q, self.k, self.v))
        return self.o(attention(*split).transpose(1, 2).flatten(2))

    parts = {name: nn.Linear(16, heads * size) for name in "qkv"}
    series = {"series": torch.zeros(2, 5, 16)}
    network = module(forward, o=nn.Linear(heads * size, 16), **parts)
    found = proven(network, series, ratio=ratio, round_to=16)

    assert found.shapes["q.weight"] == found.shapes["v.weight"] == (left * size, 16)
