"""Programs that were not exported as they should have been are let in with a sentence that says how to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from app.admission import admit_model
from tests.support import admission_networks as nets
from worker.engine.torch_program.architectures import torchvision

AUTO = torch.export.Dim.AUTO
DYNAMIC = torch.export.Dim.DYNAMIC


def warnings(path: Path) -> tuple[str, ...]:
    return admit_model(path, max_inflated_bytes=1 << 30).warnings


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny"])
def test_stochastic_depth_that_is_baked_in(exported: Any, name: str) -> None:
    """ConvNeXt has neither dropout nor batch norm: only the draws of skipped blocks tell."""
    made = torchvision().models.get_model(name, num_classes=10)
    shapes = ({0: DYNAMIC},)
    (trained,) = warnings(exported(f"{name}_train", made.train(), torch.randn(2, 3, 32, 32), dynamic_shapes=shapes))
    evaluated = warnings(exported(f"{name}_eval", made.eval(), torch.randn(2, 3, 32, 32), dynamic_shapes=shapes))

    assert "training mode" in trained
    assert "stochastic depth" in trained
    assert "model.eval()" in trained
    assert evaluated == ()


def test_frozen_parameters(exported: Any) -> None:
    net = nets.Cnn().eval()
    net.conv.requires_grad_(requires_grad=False)
    (some,) = warnings(exported("some", net, torch.randn(2, 1, 8, 8), dynamic_shapes=({0: DYNAMIC},)))

    assert some.startswith("2 of the 6 parameters were frozen (requires_grad=False)")


class Folded(nn.Module):
    """A linear layer whose weight became a buffer or a constant."""

    def __init__(self, *, buffer: bool) -> None:
        super().__init__()
        weight = torch.randn(3, 4)
        if buffer:
            self.register_buffer("weight", weight)
        else:
            self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


@pytest.mark.parametrize("kind", ["buffer", "constant"])
def test_weights_that_were_folded_away(exported: Any, kind: str) -> None:
    path = exported(kind, Folded(buffer=kind == "buffer"), torch.randn(2, 4), dynamic_shapes=({0: DYNAMIC},))
    (only,) = warnings(path)

    assert "no parameters" in only
    assert "nn.Parameter" in only


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        count = (x > 0).sum().item()
        torch._check(count >= 0)
        return self.head(x) * count


class Masking(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x[(x > 0).any(1)])


@pytest.mark.parametrize("made", [Counting, Masking])
def test_sizes_that_the_data_decides(exported: Any, made: type[Counting]) -> None:
    (only,) = warnings(exported(made.__name__, made(), torch.randn(4, 4), dynamic_shapes=({0: DYNAMIC},)))

    assert "depend on its data (u0)" in only
    assert "torch.where" in only


class Branching(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) if x.shape[0] > 8 else -self.head(x)


def test_a_branch_that_the_example_decided(exported: Any) -> None:
    (small,) = warnings(exported("small", Branching(), torch.randn(4, 4), dynamic_shapes=({0: AUTO},)))
    (large,) = warnings(exported("large", Branching(), torch.randn(16, 4), dynamic_shapes=({0: AUTO},)))

    assert "sizes with x.size(0) <= 8:" in small
    assert "sizes with x.size(0) > 8:" in large


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(4, 4)

    def forward(self, x: Tensor, parts: dict[str, Tensor]) -> Tensor:
        return self.scale(x + parts["y"])


def test_inputs_that_share_their_batch_are_no_branch(exported: Any) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {"x": {0: batch}, "parts": {"y": {0: batch}}}

    path = exported("shared", Sum(), torch.randn(3, 4), {"y": torch.randn(3, 4)}, dynamic_shapes=shapes)

    assert warnings(path) == ()
