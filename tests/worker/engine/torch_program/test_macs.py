"""Multiply-accumulates against published figures, and the same from both formats."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.engine import zoo
from tests.support.engine.orders import signature_of
from tests.support.engine.pruned_networks import as_program, torchvision_program
from worker.engine.onnx_graph.macs import onnx_macs
from worker.engine.torch_program.macs import count_macs, uncounted
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.shapes import rows_of, shapes_of


def macs(program: Program) -> int:
    module = program.graph_module()
    return count_macs(module.graph, shapes_of(program, module).__getitem__, rows_of(program))


@pytest.mark.parametrize(("name", "published"), [("resnet18", 1.814e9), ("mobilenet_v2", 0.301e9)])
def test_published_figures(name: str, published: float) -> None:
    """Those of torchvision's model pages, per image of 224 x 224."""
    assert macs(torchvision_program(name, size=224)) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(
    ("network", "example", "expected"),
    [
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), torch.zeros(2, 4, 5, 5), 5 * 5 * 4 * 3 * 2 * 2),
        (nn.Conv1d(4, 8, 3, padding=1, groups=4), torch.zeros(2, 4, 10), 10 * 8 * 1 * 3),
        (nn.Bilinear(3, 4, 5), None, 0),
    ],
)
def test_layers_counted_by_hand(network: nn.Module, example: torch.Tensor | None, expected: int) -> None:
    if example is None:
        program = as_program(network, {"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)})
        assert uncounted(program.graph_module().graph) == {"bilinear": 1}
    else:
        program = as_program(network, {"x": example})
        assert uncounted(program.graph_module().graph) == {}
    assert macs(program) == expected


def test_recurrent_layers_count_every_step() -> None:
    program = as_program(zoo.Recurrent(), {"series": torch.zeros(2, 12, 8)})

    assert macs(program) == 12 * (4 * 64 * 8 + 4 * 64 * 64) + 64 * 3


def test_an_onnx_file_costs_what_its_program_costs(resnet18: Path, recurrent: Path, transformer: Path) -> None:
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    for path, program in (
        (resnet18, torchvision_program("resnet18")),
        (recurrent, as_program(zoo.Recurrent(), {"series": torch.zeros(2, 12, 8)})),
        (transformer, as_program(zoo.TransformerBlock(), {"tokens": tokens})),
    ):
        assert onnx_macs(path, signature_of(path)) == (macs(program), "")
