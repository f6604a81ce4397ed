"""Small networks of the kinds people upload."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from tests.support.export_cache import cached, key_of


class Cnn(torch.nn.Module):
    """Convolution, batch norm, pooling, a linear head and a buffer that is not saved."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, channels, 3)
        self.norm = torch.nn.BatchNorm2d(channels)
        self.head = torch.nn.Linear(channels, 10)
        self.register_buffer("scale", torch.ones(channels), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.conv(x))).mean((2, 3)) * self.scale
        scores: torch.Tensor = self.head(torch.nn.functional.dropout(features, 0.5, self.training))
        return scores


class Transformer(torch.nn.Module):
    """Token ids of any batch and length to two scores; weights tied between embedding and head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 16)
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = torch.nn.Linear(16, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.layer(self.embed(ids))
        rows, length, width = hidden.shape
        pairs = hidden.reshape(rows * length // 2, 2, width).mean(1)
        return {"logits": self.head(pairs), "pooled": hidden.mean(1)}


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(5, 7, batch_first=True)
        self.head = torch.nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.lstm(x)
        scores: torch.Tensor = self.head(hidden[:, -1])
        return scores


class Branching(torch.nn.Module):
    """`torch.cond` and an output whose size depends on the data."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        turned = torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))
        return turned, (x > 0).nonzero()


def to_onnx(module: torch.nn.Module, args: Any, shapes: Any, folder: Path, *, external_data: bool = False) -> Path:
    """Export as a user would, in eval mode; `model.onnx` in the folder, with its weights in it or beside it."""
    key = key_of(_to_onnx, module.eval(), *args, shapes, external_data)
    made = cached(key, lambda kept: _to_onnx(module, args, shapes, kept / "model.onnx", external_data=external_data))
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder / "model.onnx"


def _to_onnx(module: torch.nn.Module, args: Any, shapes: Any, path: Path, *, external_data: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside of the exporter and onnxscript
        torch.onnx.export(
            module, args, path, dynamo=True, dynamic_shapes=shapes, external_data=external_data, verbose=False
        )
