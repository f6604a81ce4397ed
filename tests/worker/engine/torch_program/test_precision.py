"""Programs in half precision, and programs in double precision that measure their rounding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.admission import admit_model
from worker.engine.torch_program.precision import computes_in_halves, in_float64
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.pt2 import load_program

BATCH = torch.export.Dim("batch", min=1, max=64)
IDS = np.arange(24).reshape(3, 8) % 20


class Speaking(nn.Module):
    """An embedding, a buffer, a constant and a linear layer, in an autocast region if wanted."""

    def __init__(self, *, autocast: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head, self.autocast = nn.Embedding(20, 16), nn.Linear(16, 5), autocast
        self.register_buffer("scale", torch.full((16,), 0.5))
        self.shift = torch.ones(16)

    def forward(self, ids: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            mixed: Tensor = self.head(self.table(ids).tanh() * self.scale + self.shift.to(self.scale.dtype))
        return mixed


def loaded(net: nn.Module, folder: Path) -> Program:
    example = torch.zeros(2, 8, dtype=torch.long)
    torch.export.save(torch.export.export(net.eval(), (example,), dynamic_shapes=({0: BATCH},)), folder / "net.pt2")
    info = admit_model(folder / "net.pt2", max_inflated_bytes=1 << 30)
    assert any("worked on in float32" in warning for warning in info.warnings)
    return load_program(folder / "net.pt2", info.signature, folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_worked_on_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    want = Speaking()(torch.from_numpy(IDS)).detach().numpy()
    program = loaded(Speaking().to(dtype), tmp_path)

    (got,) = program({"ids": IDS}).values()

    assert not computes_in_halves(program.exported)
    assert program.signature.outputs[0].dtype == "float32"
    assert got.dtype == np.float32
    assert got == pytest.approx(want, abs=0.02)


def test_autocast_regions_are_worked_on_in_float32(tmp_path: Path) -> None:
    want = Speaking()(torch.from_numpy(IDS)).detach().numpy()
    (got,) = loaded(Speaking(autocast=True), tmp_path)({"ids": IDS}).values()

    assert got == pytest.approx(want, abs=1e-5)


def test_double_precision_measures_rounding(tmp_path: Path) -> None:
    program = loaded(Speaking().to(torch.bfloat16), tmp_path)
    (exact,) = program.outputs_of(in_float64(program), {"ids": torch.from_numpy(IDS)}).values()

    apart = np.abs(exact.detach().numpy() - next(iter(program({"ids": IDS}).values()))).max()
    assert exact.dtype == torch.float64
    assert 0 < apart < 1e-5
