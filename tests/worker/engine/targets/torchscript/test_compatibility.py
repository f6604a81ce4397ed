"""TorchScript: what LibTorch has no schema of is told before anything is compiled."""

from pathlib import Path

import torch
import torch.ao.quantization.fx._decomposed  # registers them

from app.admission import admit_model
from app.spec.compatibility import CompatibilityOrder
from app.spec.targets import (
    TorchScriptTarget,
)
from app.spec.work import ModelFile
from tests.support.engine.compatibility import Running, asked_of_program
from tests.support.engine.looks import fates
from worker.engine.compatibility import find_out
from worker.engine.progress import Unheard
from worker.runtime.job_sandbox import JobSandbox


class Rounded(torch.nn.Module):
    """With operators that torch registers from Python, and LibTorch does not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = (0.1, 0, -128, 127, torch.int8)
        rounded = torch.ops.quantized_decomposed.quantize_per_tensor(torch.relu(x), *codes)
        return torch.ops.quantized_decomposed.dequantize_per_tensor(rounded, *codes)


def test_operators_that_libtorch_does_not_register_are_unsupported(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Rounded().eval(), (torch.randn(8, 8),)), tmp_path / "model.pt2")
    info = admit_model(tmp_path / "model.pt2", max_inflated_bytes=1 << 30)
    model = ModelFile(path="model.pt2", sha256="0" * 64, bytes=1, info=info)
    (table,) = find_out(CompatibilityOrder(model=model, targets=(TorchScriptTarget(),)), tmp_path, Unheard()).tables

    assert fates(table)["quantized_decomposed.quantize_per_tensor.default"] == {"unsupported": 1}
    assert fates(table)["aten.relu.default"] == {"supported": 1}
    assert "quantized_decomposed.quantize_per_tensor.default" in (table.refusal or "")
    assert "registry of schemas of torch" in table.operators[0].source


def test_torchscript_has_what_libtorch_registers(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), Running())
    (table,) = asked_of_program(module, job_sandbox, tmp_path, TorchScriptTarget())

    assert table.refusal is None
    assert fates(table)["aten::cumsum"] == {"supported": 1}
    assert {row.status for row in table.operators} == {"supported"}
    assert "LibTorch" in table.operators[0].source
