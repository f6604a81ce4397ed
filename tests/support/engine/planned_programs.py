"""Programs after a quantize step, and how far apart two outputs are."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from app.spec.quantize import Skip
from tests.support.engine.orders import context, rows_of
from tests.support.engine.pruned_networks import as_program
from worker.engine.model import Model, new_folder
from worker.engine.passes.table import apply_step

IMAGES = np.random.default_rng(0).standard_normal((32, 3, 16, 16)).astype(np.float32)
AVERAGES = Skip(operators=("AveragePool",))
"""Of four codes, one average in four is a tie, which may be rounded to either side."""


TOKENS = np.random.default_rng(0).integers(0, 200, (32, 16))


def planned(network: nn.Module, step: object, directory: Path, **inputs: np.ndarray) -> Model:
    """The model of a network after one step that measured on the inputs."""
    examples = {name: torch.from_numpy(array[:2]) for name, array in inputs.items()}
    program = as_program(network, examples)
    model = Model(program, program.signature, new_folder(directory / "scratch"))
    rows = rows_of(directory, **inputs)
    return apply_step(step, model, context(directory, rows)).model  # type: ignore[arg-type]


def decibels(expected: np.ndarray, actual: np.ndarray) -> float:
    noise = float(np.square(expected - actual).sum())
    return float(10 * np.log10(np.square(expected).sum() / max(noise, 1e-30)))
