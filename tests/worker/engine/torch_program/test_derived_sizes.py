"""Programs for sizes that are multiples of a dimension, as U-Nets are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.admission import admit_model
from tests.support.engine.orders import outputs_of, upload
from worker.engine.model import open_model
from worker.engine.torch_program.fixed_shape import flexible
from worker.engine.torch_program.shapes import shapes_of

Dim = torch.export.Dim


class UNet(nn.Module):
    """One level: down by two, up again, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.down = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, 1)
        self.up, self.head = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.fine(image).relu()
        joined: Tensor = self.head(torch.cat([fine, self.up(self.down(fine).relu())], 1))
        return joined


def test_a_program_for_even_sizes_is_opened_exported_and_rebuilt(tmp_path: Path) -> None:
    sizes = ({0: Dim("b", min=1, max=64), 2: 2 * Dim("h", min=4, max=64), 3: 2 * Dim("w", min=4, max=64)},)
    exported = torch.export.export(UNet().eval(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=sizes)
    torch.export.save(exported, tmp_path / "net.pt2")
    info = admit_model(tmp_path / "net.pt2", max_inflated_bytes=1 << 30)
    height = info.signature.inputs[0].shape[2]
    assert not isinstance(height, int)
    assert (height.min, height.max) == (8, 128)
    file = upload(tmp_path, "net.pt2", info.signature)

    model = open_model(file, tmp_path, tmp_path / "scratch", threads=1)
    program = model.program.rebuilt(model.program.graph_module())

    rows = {"image": np.random.default_rng(0).standard_normal((3, 3, 12, 26)).astype(np.float32)}
    (want,) = model.program(rows).values()
    assert next(iter(program(rows).values())) == pytest.approx(want, abs=1e-6)
    assert outputs_of(model.graph, rows)[0] == pytest.approx(want, abs=1e-5)
    assert flexible(program, 4).range_constraints
    shapes = shapes_of(program, module := program.graph_module())
    assert shapes[next(iter(module.graph.output_node().all_input_nodes))] == (3, 2, 16, 16)
