"""Small networks of every family the engine treats differently, exported as users export them."""

import shutil
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from tests.support.export_cache import cached, key_of
from worker.engine.torch_program.architectures import torchvision

Axes = tuple[dict[int, object], ...]


def resnet(name: str) -> nn.Module:
    torch.manual_seed(0)
    return getattr(torchvision().models, name)(weights=None).eval()


class TransformerBlock(nn.Module):
    """Token ids [rows, tokens] to logits [rows, 4]: embedding, two encoder layers with a hidden size of 64, mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(200, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


class Recurrent(nn.Module):
    """Sequences [rows, 12, 8] to logits [rows, 3]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.head = nn.Linear(64, 3)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(series)[0][:, -1])


class TwoInputs(nn.Module):
    """An image [rows, 3, 16, 16] and facts [rows, 5] to a score and an embedding; returned as a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.mix = nn.Linear(128 + 5, 64)
        self.score = nn.Linear(64, 1)

    def forward(self, image: torch.Tensor, facts: torch.Tensor) -> dict[str, torch.Tensor]:
        mixed = torch.relu(self.mix(torch.cat([self.features(image), facts], 1)))
        return {"score": self.score(mixed), "embedding": mixed}


class Mixed(nn.Module):
    """Images [rows, 3, 16, 16] to logits [rows, 10]: a residual addition, a depthwise convolution, a concatenation,
    a clamp at 6, average pooling, and layers with and without batch norm or bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.depthwise = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU6(inplace=True),
            nn.Conv2d(16, 16, 1, bias=False),
            nn.BatchNorm2d(16),
        )
        self.left, self.right = nn.Conv2d(16, 8, 3, padding=1, stride=2), nn.Conv2d(16, 24, 1, stride=2)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 16, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        stem = self.stem(image)
        added = torch.relu_(self.depthwise(stem).add_(stem))
        joined = torch.cat([self.left(added), torch.relu(self.right(added))], 1)
        return self.head(self.pool(joined))


def program(model: nn.Module, *examples: torch.Tensor) -> ExportedProgram:
    """The model exported with a varying first dimension of every input."""
    batch = Dim("batch", min=1, max=4096)
    return torch.export.export(model.eval(), examples, dynamic_shapes=tuple({0: batch} for _ in examples))


def export(model: nn.Module, path: Path, inputs: dict[str, torch.Tensor], outputs: list[str]) -> Path:
    """Write ONNX with these names, a file of its own. `inputs` are examples with two rows."""
    key = key_of(_export, program, model.eval(), *inputs, *inputs.values(), outputs)
    made = cached(key, lambda folder: _export(model, folder / "model.onnx", inputs, outputs))
    shutil.copyfile(made / "model.onnx", path)
    return path


def _export(model: nn.Module, path: Path, inputs: dict[str, torch.Tensor], outputs: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter uses what torch has deprecated
        exported = torch.onnx.export(
            program(model, *inputs.values()),
            dynamo=True,
            opset_version=20,
            verbose=False,
            external_data=False,
            input_names=list(inputs),
            output_names=outputs,
        )
        exported.save(path)
