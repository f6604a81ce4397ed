"""Weights that are computed from other parameters are folded, and their channels go like any others."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from tests.support.engine.pruned_networks import as_program, module, proven, pruned
from worker.engine.torch_program.fold_weights import with_folded_weights

SERIES = {"series": torch.randn(2, 4, 16)}


class Standardized(nn.Conv1d):
    """Weights of mean 0 and variance 1 (Qiao et al. 2019, arXiv:1903.10520)."""

    def forward(self, series: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = nn.functional.batch_norm(flat, None, None, training=True, momentum=0.0).reshape_as(self.weight)
        return nn.functional.conv1d(series, weight, self.bias)


def network(norm: str) -> nn.Module:
    def forward(self: nn.Module, series: Tensor) -> Tensor:
        return self.head(self.b(self.a(series).relu()).relu().mean(-1))

    convolution = Standardized if norm == "standardized" else nn.Conv1d
    a, b = convolution(4, 32, 3), convolution(32, 32, 3)
    wrap = {
        "weight_norm": parametrizations.weight_norm,
        "weight_norm of old": weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "standardized": lambda layer: layer,
    }[norm]
    return module(forward, a=wrap(a), b=wrap(b), head=nn.Linear(32, 5))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", ["weight_norm", "weight_norm of old", "spectral_norm", "standardized"])
def test_they_are_pruned_as_the_weights_that_they_are(norm: str, tmp_path: Path) -> None:
    program = as_program(network(norm), SERIES)
    folded, weights = with_folded_weights(program)
    found = proven(program, SERIES)

    assert [weight.name for weight in weights] == ["a.weight", "b.weight"]
    assert set(folded.exported.state_dict) == {"a.weight", "a.bias", "b.weight", "b.bias", "head.weight", "head.bias"}
    before, after = (
        version.outputs_of(version.exported.module(check_guards=False), SERIES)["logits"]
        for version in (program, folded)
    )
    assert torch.equal(before, after)
    assert found.shapes["a.weight"] == (16, 4, 3)
    assert found.shapes["b.weight"] == (16, 16, 3)
    notes = pruned(program, tmp_path, round_to=1).notes
    assert any("became parameters themselves: a.weight, b.weight" in note for note in notes)


def test_a_program_without_them_is_left_as_it_is() -> None:
    program = as_program(module(lambda self, series: self.a(series), a=nn.Conv1d(4, 8, 3)), SERIES)

    assert with_folded_weights(program) == (program, ())
