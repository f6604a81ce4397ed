"""What ExecuTorch knows of a model's operators, asked through a jailed process."""

from pathlib import Path

import pytest
import torch

from app.spec.targets import (
    ExecuTorchTarget,
)
from tests.support.engine.compatibility import Product, Running, asked_of_program
from tests.support.engine.looks import fates
from worker.runtime.job_sandbox import JobSandbox


@pytest.mark.toolchain("executorch")
def test_executorch_shows_what_xnnpack_takes(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), Product(), Running())
    (table,) = asked_of_program(module, job_sandbox, tmp_path, ExecuTorchTarget())

    assert table.refusal is None
    assert fates(table)["convolution"] == {"supported": 1}
    assert fates(table)["cumsum"] == {"falls_back": 1}
    assert "ExecuTorch" in table.operators[0].source
    assert table.notes == (
        "Not quantizable in the ONNX form: MatMul (1): Its weight is computed while the model runs.",
    )
