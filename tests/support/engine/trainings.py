"""Networks, rows and contexts for tests of everything that trains."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from app.spec.data import DatasetSpec
from app.spec.job import Role
from app.spec.signature import Dimension, Signature, TensorSpec
from examples import digits
from tests.support.engine import zoo
from tests.support.engine.orders import data_file
from worker.engine.checkpoints import Checkpoints
from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.model import Model, new_folder
from worker.engine.progress import Progress, Unheard
from worker.engine.torch_program.program import Program

BATCH = Dimension(name="batch", min=1, max=4096)
SIGNATURE = Signature(
    inputs=(TensorSpec(name="image", dtype="float32", shape=(BATCH, 1, 8, 8)),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=(BATCH, 10)),),
)
TO_FLOAT = DatasetSpec.model_validate({"preprocess": {"image": [{"type": "to_float"}]}})


class Died(Exception):
    """The process was killed."""


def digits_program(network: nn.Module) -> Program:
    """Images [rows, 1, 8, 8] to logits [rows, 10]."""
    return Program(zoo.program(network, torch.zeros(2, 1, 8, 8)), SIGNATURE)


def digits_model(network: nn.Module, folder: Path) -> Model:
    """The network as the engine opens it."""
    return Model(digits_program(network), SIGNATURE, new_folder(folder / "scratch"))


def digits_rows(folder: Path, chosen: slice | Sequence[int] | np.ndarray, *, labels: bool = True) -> Rows:
    """Some of the 1,797 images as rows on disk."""
    images, numbers = digits.all_digits()
    arrays = {"image": images[chosen], "y": numbers[chosen]}
    if not labels:
        del arrays["y"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rows-{len(list(folder.glob('rows-*')))}.npz"
    np.savez(path, **arrays)
    return Rows.open(folder, data_file(path.name, TO_FLOAT), ["image"])


def training_context(
    folder: Path, data: dict[Role, Rows], *, seed: int = 0, keep: bool = False, progress: Progress | None = None
) -> Context:
    """What a step that trains gets; with a folder for checkpoints if it is to `keep` them."""
    heard = progress or Unheard()
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(folder / "checkpoints", heard) if keep else None
    return Context(data, scratch, 1, seed, heard, checkpoints=checkpoints)


def top1(model: Model, rows: Rows) -> float:
    """Share of right answers."""
    right = 0
    for inputs, labels in rows.batches(256):
        right += int((model.program(inputs)["logits"].argmax(1) == labels).sum())
    return right / len(rows)
