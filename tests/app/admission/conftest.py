"""Real exports, made once per test run."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import admission_networks as nets


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Exports a module to a `.pt2` and returns its path."""
    folder = tmp_path_factory.mktemp("pt2")

    def export(name: str, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Path:
        path = folder / f"{name}.pt2"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations, and its remarks on LSTM weights
            torch.export.save(torch.export.export(module, args, **kwargs), path)
        return path

    return export


@pytest.fixture(scope="session")
def cnn_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CNN with a dynamic batch."""
    return nets.to_onnx(nets.Cnn(), (torch.randn(2, 1, 8, 8),), ({0: "batch"},), tmp_path_factory.mktemp("cnn"))


@pytest.fixture(scope="session")
def external_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same CNN with its weights in `model.onnx.data` beside it."""
    folder = tmp_path_factory.mktemp("external")
    return nets.to_onnx(nets.Cnn(64), (torch.randn(2, 1, 8, 8),), ({0: "batch"},), folder, external_data=True)
