"""A program that ONNX has no form for is looked at and delivered where none is needed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from app.admission import admit_model
from tests.support.engine.orders import upload
from worker.engine.inspect import look_at
from worker.engine.model import Model, open_model
from worker.engine.onnx_graph.errors import ExportFailed


class Spectral(nn.Module):
    """A linear layer behind eigenvalues, which ONNX does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layer(torch.linalg.eigvalsh(x @ x.transpose(1, 2)))
        return scores


@pytest.fixture
def spectral(tmp_path: Path) -> Model:
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    exported = torch.export.export(Spectral().eval(), (torch.randn(2, 4, 4),), dynamic_shapes=shapes)
    torch.export.save(exported, tmp_path / "net.pt2")
    info = admit_model(tmp_path / "net.pt2", max_inflated_bytes=1 << 30)
    return open_model(upload(tmp_path, "net.pt2", info.signature), tmp_path, tmp_path / "scratch", threads=1)


def test_it_is_opened_and_refused_only_where_onnx_is_asked_for(spectral: Model) -> None:
    for _ in range(2):
        with pytest.raises(ExportFailed, match="eigh"):
            spectral.graph  # noqa: B018


def test_it_is_looked_at_with_what_each_step_could_do(spectral: Model) -> None:
    outlooks = look_at(spectral).steps

    assert outlooks["finetune"].applicable
    assert not outlooks["quantize.static"].applicable
    assert "eigh" in outlooks["quantize.static"].says
