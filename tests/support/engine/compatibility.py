"""Asks for the compatibility of models through real jailed processes, and models to ask about."""

from pathlib import Path

import numpy as np
import onnx
import torch

from app.admission import admit_model
from app.spec.compatibility import Compatibilities, Compatibility, CompatibilityOrder
from app.spec.targets import (
    Target,
)
from app.spec.work import ModelFile
from tests.support.engine.looks import order
from tests.support.target_jobs import LIMITS
from worker.runtime.job_sandbox import JobSandbox, Listeners

WEIGHT = np.ones((4, 3, 3, 3), np.float32)


def asked(
    model: onnx.ModelProto, job_sandbox: JobSandbox, directory: Path, *targets: Target
) -> tuple[Compatibility, ...]:
    return tables_found(order(model, directory, *targets), job_sandbox, directory)


def tables_found(wanted: CompatibilityOrder, job_sandbox: JobSandbox, directory: Path) -> tuple[Compatibility, ...]:
    (directory / "order.json").write_text(wanted.model_dump_json())
    outcome = job_sandbox.run(directory, LIMITS, Listeners(), kind="compatibility")
    assert isinstance(outcome, Compatibilities), outcome
    return outcome.tables


class Unusual(torch.nn.Module):
    """An operator that few runtimes have, behind one that all of them have."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(torch.relu(image))


class Running(torch.nn.Module):
    """An operator that delegates leave to others."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(image.flatten(1), 1)


class Product(torch.nn.Module):
    """A product of two activations."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image @ image.mT


class Best(torch.nn.Module):
    """An operator that is converted to one that LiteRT's interpreter does not have."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.topk(image.flatten(1), 5).values


def asked_of_program(
    module: torch.nn.Module, job_sandbox: JobSandbox, directory: Path, *targets: Target
) -> tuple[Compatibility, ...]:
    """The same for a program with images of 3 x 8 x 8, as it is uploaded."""
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module.eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, directory / "model.pt2")
    info = admit_model(directory / "model.pt2", max_inflated_bytes=1 << 30)
    model = ModelFile(path="model.pt2", sha256="0" * 64, bytes=1, info=info)
    return tables_found(CompatibilityOrder(model=model, targets=targets), job_sandbox, directory)
