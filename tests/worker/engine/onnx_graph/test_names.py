"""Inputs and outputs keep their names in ONNX, whatever values and weights are called there."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from tests.support.engine.pruned_networks import as_program
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_graph.export import export_onnx


class Embedded(nn.Module):
    """Token ids [rows, 6] to two outputs; its values are called embedding, linear, relu, and weight among others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.linear, self.weight = nn.Embedding(20, 8), nn.Linear(8, 4), nn.Parameter(torch.rand(4))

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        found = self.embedding(tokens)
        scores = self.linear(found).relu() * self.weight
        return {"first": scores, "second": found.mean(1)}


class Same(nn.Module):
    """Returns its input."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, 2 * x


TOKENS = torch.zeros(2, 6, dtype=torch.int64)


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        ("tokens", ("embedding", "linear")),  # values inside
        ("tokens", ("weight", "embedding.weight")),  # weights
        ("tokens", ("mean", "mul")),  # each other's
        ("linear", ("val_0", "relu")),
        ("weight", ("logits", "embedding")),
    ],
)
def test_names_of_the_contract_win(given: str, returned: tuple[str, str], tmp_path: Path) -> None:
    program = as_program(Embedded(), {given: TOKENS}, returned)

    translated = export_onnx(program, tmp_path / "named.onnx", threads=1, seed=0)  # and the outputs agree by name

    graph = onnx.load(tmp_path / "named.onnx").graph
    assert [value.name for value in graph.input] == [given]
    assert tuple(value.name for value in graph.output) == returned
    inside = {name for node in graph.node for name in node.output} - set(returned)
    nodes = {node.name for node in translated.graph_module.graph.nodes}
    found = {name for name in inside if name.startswith(("embedding", "linear", "relu"))}
    assert len(found) >= 2
    assert found <= nodes, "the translated program's nodes are called like the file's values"


def test_one_name_for_two_values_is_refused(tmp_path: Path) -> None:
    program = as_program(Same(), {"x": torch.zeros(2, 3)}, ("x", "mul"))

    with pytest.raises(ExportFailed, match="More than one input or output is called x") as refused:
        export_onnx(program, tmp_path / "same.onnx", threads=1, seed=0)
    assert "x.clone()" in refused.value.remedy
