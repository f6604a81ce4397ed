"""A bias is corrected where the network's outputs get better, not wherever a layer's mean does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.spec.quantize import QuantizeStatic
from tests.support.engine import zoo
from tests.support.engine.orders import changed, lowered, outputs_of, rows_of, sqnr_db


class PaddedAttention(nn.Module):
    """Attention over padded tokens, whose keys are exactly zero and stay zero when they are normalized."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Linear(16, 32), nn.Linear(32, 10)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        nn.init.zeros_(self.key.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = nn.functional.pad(nn.functional.gelu(self.embed(x)), (0, 0, 0, 24))
        query, key = (nn.functional.normalize(layer(tokens), dim=-1) for layer in (self.query, self.key))
        mixed = (query @ key.transpose(1, 2) * 10).softmax(-1) @ self.value(tokens)
        return self.out(mixed[:, :8].mean(1))


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attention") / "attention.onnx"
    return zoo.export(PaddedAttention(), path, {"x": torch.zeros(2, 8, 16)}, ["y"])


def test_a_correction_that_harms_is_left_out(attention: Path, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((64, 8, 16)).astype(np.float32) + np.float32(0.5)
    levels, biases = {}, {}
    for wanted in (True, False):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        quantized = changed(QuantizeStatic(bias_correction=wanted), attention, folder, rows_of(folder, x=rows))
        biases[wanted] = quantized.model.plan.input_means
        artifact = lowered(quantized.model, "x86", folder)
        levels[wanted] = sqnr_db(outputs_of(attention, {"x": rows})[0], outputs_of(artifact, {"x": rows})[0])

    assert levels[True] > levels[False] - 0.5
    assert not biases[False]
    assert len(biases[True]) < 5
