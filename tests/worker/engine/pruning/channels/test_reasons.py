"""What kept channels whole is named with its layers, and nothing else is."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.engine import blocks
from tests.support.engine.pruned_networks import as_program, module, proven, pruned
from worker.engine.pruning.channels.errors import NothingToPrune


def test_an_operator_that_meets_no_channel_is_not_named(tmp_path: Path) -> None:
    def forward(self: nn.Module, features: Tensor, kind: Tensor) -> Tensor:
        wanted = (kind > 0) & (kind < 5)
        return self.b(torch.relu(self.a(features)) * wanted[:, None].float())

    inputs = {"features": torch.zeros(2, 16), "kind": torch.zeros(2, dtype=torch.int64)}
    changed = pruned(as_program(module(forward, a=nn.Linear(16, 64), b=nn.Linear(64, 8)), inputs), tmp_path)

    assert changed.notes == ()
    assert not any(name.startswith("frozen") for name in changed.facts)


def test_a_note_names_the_operator_and_the_layers(tmp_path: Path) -> None:
    network = blocks.Images(blocks.Sorted(), nn.Conv2d(32, 32, 1), nn.Softmax(1))
    changed = pruned(as_program(network, {"image": torch.zeros(2, 3, 8, 8)}), tmp_path)

    assert changed.notes == (
        "Channels of stem stayed whole because of kthvalue: no rule is known.",
        "Channels of middle.1 stayed whole because of softmax: each depends on the others.",
    )
    assert changed.facts["frozen kthvalue"] == 1


def test_a_refusal_says_what_kept_everything(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, 4)).eval()

    with pytest.raises(NothingToPrune, match=r"Channels of 0 stayed whole because of layer_norm: .* Those of 2 are"):
        pruned(as_program(network, {"features": torch.zeros(2, 16)}), tmp_path)


def test_many_layers_are_counted() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(16, 8) for _ in range(5))
            self.norm, self.hidden, self.head = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, features: Tensor) -> Tensor:
            return self.head(self.hidden(self.norm(sum(part(features) for part in self.parts))).relu())

    found = proven(Joined().eval(), {"features": torch.zeros(2, 16)})

    assert found.whys == {"layer_norm": tuple(f"parts.{number}" for number in range(5))}
