"""Networks trained or exported once for all tests of the engine."""

from pathlib import Path

import numpy as np
import pytest
import torch

from app.spec.data import DatasetSpec
from examples import digits
from tests.support.engine import zoo
from tests.support.engine.orders import data_file
from worker.engine.data.rows import Rows

DIGITS_SPEC = DatasetSpec.model_validate(
    {"splits": {"calibration": 0.3, "test": 0.7}, "preprocess": {"image": [{"type": "to_float"}]}}
)


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits.onnx, digits.pt2 and digits.npz."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("digits")
    model = digits.train_digits_cnn(seed=0)
    digits.export_onnx(model, folder / "digits.onnx")
    digits.export_pt2(model, folder / "digits.pt2")
    digits.save_dataset(folder / "digits.npz")
    return folder


def digits_rows(folder: Path, split: str) -> Rows:
    return Rows.open(folder, data_file("digits.npz", DIGITS_SPEC, split), ["image"])


@pytest.fixture(scope="session")
def digits_calibration(digits_folder: Path) -> Rows:
    return digits_rows(digits_folder, "calibration")


@pytest.fixture(scope="session")
def digits_test(digits_folder: Path) -> Rows:
    return digits_rows(digits_folder, "test")


def _exported(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    folder = tmp_path_factory.mktemp(name)
    return zoo.export(zoo.resnet(name), folder / f"{name}.onnx", {"image": torch.zeros(2, 3, 64, 64)}, ["logits"])


@pytest.fixture(scope="session")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _exported(tmp_path_factory, "resnet18")


@pytest.fixture(scope="session")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _exported(tmp_path_factory, "resnet50")


@pytest.fixture(scope="session")
def photos() -> np.ndarray:
    """Eight images of noise, [8, 3, 64, 64]."""
    return np.random.default_rng(0).standard_normal((8, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="session")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    path = tmp_path_factory.mktemp("transformer") / "transformer.onnx"
    return zoo.export(zoo.TransformerBlock(), path, {"tokens": tokens}, ["logits"])


@pytest.fixture(scope="session")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recurrent") / "recurrent.onnx"
    return zoo.export(zoo.Recurrent(), path, {"series": torch.zeros(2, 12, 8)}, ["logits"])


@pytest.fixture(scope="session")
def two_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("two") / "two.onnx"
    examples = {"image": torch.zeros(2, 3, 16, 16), "facts": torch.zeros(2, 5)}
    return zoo.export(zoo.TwoInputs(), path, examples, ["score", "embedding"])
