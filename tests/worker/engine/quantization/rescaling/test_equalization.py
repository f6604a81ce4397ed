"""Equalized layers compute what they did, and lose less to quantization where channels differed in size."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from app.spec.quantize import QuantizeStatic
from tests.support.engine import zoo
from tests.support.engine.orders import changed, executed, lowered, outputs_of, rows_of, sqnr_db

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.standard_normal((32, 3, 16, 16)).astype(np.float32)


class BadlyScaled(nn.Module):
    """Inverted residual blocks, [rows, 3, 16, 16] to [rows, 10], whose channels differ in size a hundred times."""

    def __init__(self, clamp: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, 64, 1), clamp(), nn.Conv2d(64, 64, 3, padding=1, groups=64), clamp(), nn.Conv2d(64, 16, 1)
            )
            for _ in range(2)
        )
        self.head = nn.Linear(16, 10)
        for block in self.blocks:
            for first, second in ((block[0], block[2]), (block[2], block[4])):
                factor = torch.exp(2 * torch.randn(64))
                first.weight.data *= factor.reshape(-1, 1, 1, 1)
                first.bias.data *= factor
                second.weight.data /= factor.reshape((-1, 1, 1, 1) if second.groups > 1 else (1, -1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.stem(image))
        for block in self.blocks:
            features = features + block(features)
        return self.head(features.mean((2, 3)))


@pytest.fixture(scope="module", params=[nn.ReLU, nn.ReLU6])
def badly_scaled(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scaled") / "scaled.onnx"
    return zoo.export(BadlyScaled(request.param), path, {"image": torch.zeros(2, 3, 16, 16)}, ["logits"])


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_float_function_stays(per_channel, badly_scaled: Path, tmp_path: Path) -> None:
    step = QuantizeStatic(equalize=True, per_channel=per_channel)
    quantized = changed(step, badly_scaled, tmp_path, rows_of(tmp_path, image=IMAGES))

    (before,), (after,) = (outputs_of(path, {"image": IMAGES}) for path in (badly_scaled, quantized.model.plan.graph))
    assert np.abs(before - after).max() < 1e-5 * np.abs(before).max()
    assert quantized.facts["equalized_pairs"] == 4
    assert quantized.facts["equalized_channels"] > 150
    assert quantized.facts["largest_equalization"] > 3


@pytest.mark.parametrize(("per_channel", "gain_db"), [(True, 4), (False, 10)])
def test_quantization_loses_less(per_channel, gain_db: float, badly_scaled: Path, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, image=IMAGES)
    (exact,) = outputs_of(badly_scaled, {"image": IMAGES})
    noise = {}
    for equalize in (False, True):
        step = QuantizeStatic(equalize=equalize, per_channel=per_channel)
        file = lowered(changed(step, badly_scaled, tmp_path, rows).model, "x86", tmp_path)
        noise[equalize] = sqnr_db(exact, outputs_of(file, {"image": IMAGES})[0])
        assert executed(file, tmp_path)["QLinearConv"] == 7

    assert noise[True] > noise[False] + gain_db


def test_channels_that_a_clamp_acts_on_are_left(tmp_path: Path) -> None:
    """With images 100 times as bright every ReLU6 is at its bound somewhere."""
    path = tmp_path / "scaled.onnx"
    zoo.export(BadlyScaled(nn.ReLU6), path, {"image": torch.zeros(2, 3, 16, 16)}, ["logits"])
    quantized = changed(QuantizeStatic(equalize=True), path, tmp_path, rows_of(tmp_path, image=100 * IMAGES))

    (before,), (after,) = (outputs_of(path, {"image": 100 * IMAGES}) for path in (path, quantized.model.plan.graph))
    assert quantized.facts["equalized_pairs"] == 4
    assert quantized.facts["equalized_channels"] < 200
    assert np.abs(before - after).max() < 1e-5 * np.abs(before).max()


def test_values_that_others_read_are_no_pair(resnet18: Path, photos: np.ndarray, tmp_path: Path) -> None:
    """Of resnet18's 20 convolutions, eight are the first of two in a block; the others feed an addition."""
    quantized = changed(QuantizeStatic(equalize=True), resnet18, tmp_path, rows_of(tmp_path, image=photos))

    assert quantized.facts["equalized_pairs"] == 8
    (before,), (after,) = (outputs_of(path, {"image": photos}) for path in (resnet18, quantized.model.plan.graph))
    assert np.abs(before - after).max() < 1e-5 * np.abs(before).max()


def test_scaled_values_have_names_of_their_own(badly_scaled: Path, tmp_path: Path) -> None:
    """The report compares values of the same name, and these are not the same."""
    quantized = changed(QuantizeStatic(equalize=True), badly_scaled, tmp_path, rows_of(tmp_path, image=IMAGES))

    original = {name for node in onnx.load(badly_scaled).graph.node for name in node.output}
    kept = {name for node in onnx.load(quantized.model.plan.graph).graph.node for name in node.output}
    assert len([name for name in kept if name.endswith("/equalized")]) == 8
    assert len(original - kept) >= 8
