"""Programs that change their own buffers, and batch norms that are no training mode."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from app.admission import admit_model

DYNAMIC = ({0: torch.export.Dim.DYNAMIC},)


class Stateful(nn.Module):
    """A linear layer beside a buffer, a constant and a counter."""

    def __init__(self, change: Callable[["Stateful", Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.change = nn.Linear(4, 4), change
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("table", torch.zeros(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        self.change(self, y)
        return y - self.mean - self.table[0]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda net, y: net.mean.mul_(0.5).add_(y.mean(0)), "mean"),
        (lambda net, y: net.table[0].copy_(y.mean(0)), "table"),
        (lambda net, y: net.table.view(8)[:4].add_(y.sum()), "table"),
        (lambda net, y: net.table.narrow(0, 1, 1)[0].add_(y.sum()), "table"),
        (lambda net, y: net.table.index_put_((torch.tensor([0]),), y.mean(0, keepdim=True)), "table"),
        (lambda net, y: y.clone().add_(net.mean).mul_(2), None),
        (lambda net, y: net.mean.clone().add_(1), None),
    ],
)
def test_buffers_that_a_call_changes_are_told(exported: Any, change: Callable[..., Any], state: str | None) -> None:
    path = exported("state", Stateful(change).eval(), torch.randn(2, 4), dynamic_shapes=DYNAMIC)

    told = [line for line in admit_model(path, max_inflated_bytes=1 << 30).warnings if "buffers" in line]

    assert len(told) == (state is not None)
    assert state is None or f"({state})" in told[0]


class Standardized(nn.Module):
    """Weights standardized as NFNets do it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        flat = nn.functional.batch_norm(self.weight.reshape(1, 8, -1), None, None, training=True)
        return nn.functional.conv2d(x, flat.reshape_as(self.weight)).mean((2, 3))


def test_standardized_weights_are_no_training_mode(exported: Any) -> None:
    path = exported("standardized", Standardized().eval(), torch.randn(2, 3, 8, 8), dynamic_shapes=DYNAMIC)

    assert admit_model(path, max_inflated_bytes=1 << 30).warnings == ()


def test_running_statistics_in_training_mode_are_told_once(exported: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    (told,) = admit_model(
        exported("trained", net, torch.randn(2, 3, 8, 8), dynamic_shapes=DYNAMIC), max_inflated_bytes=1 << 30
    ).warnings

    assert "training mode" in told
