"""Program and ONNX are held against each other on what models are for, and by their own rounding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from app.admission import admit_model
from worker.engine.onnx_graph.agreement import first_difference, require_same
from worker.engine.onnx_graph.differences import distance
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_graph.export import export_onnx
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.pt2 import load_program

BATCH = torch.export.Dim("batch", min=1, max=64)


def loaded(net: nn.Module, folder: Path, *example: Tensor) -> Program:
    exported = torch.export.export(net.eval(), example, dynamic_shapes=tuple({0: BATCH} for _ in example))
    torch.export.save(exported, folder / "net.pt2")
    signature = admit_model(folder / "net.pt2", max_inflated_bytes=1 << 30).signature
    return load_program(folder / "net.pt2", signature, folder)


class Amplifying(nn.Module):
    """Multiplies any difference by the gain, this many times."""

    def __init__(self, gain: float, times: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        turn = torch.linalg.qr(torch.randn(32, 32))[0].clone(memory_format=torch.contiguous_format)
        self.weight, self.times = nn.Parameter(turn * gain), times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = torch.sin(x @ self.weight)
        return x


@pytest.mark.parametrize(("gain", "times"), [(3.0, 24), (3.0, 12), (1.0, 2)])
def test_a_network_that_amplifies_rounding_is_exported(tmp_path: Path, gain: float, times: int) -> None:
    export_onnx(loaded(Amplifying(gain, times), tmp_path, torch.zeros(2, 32)), tmp_path / "x.onnx", threads=1, seed=0)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.second(torch.tanh(self.first(x)) * 2).softmax(-1)
        return scores


def _other_weight(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "second.bias":
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor) + np.eye(4, dtype=np.float32)[0], tensor.name)
            )


def _other_operator(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Tanh").op_type = "Sigmoid"


@pytest.mark.parametrize(("damage", "operator"), [(_other_weight, "linear"), (_other_operator, "tanh")])
def test_the_first_operator_that_differs_is_named(
    tmp_path: Path, damage: Callable[[onnx.ModelProto], Any], operator: str
) -> None:
    program, path = loaded(Layers(), tmp_path, torch.zeros(2, 8)), tmp_path / "x.onnx"
    translated = export_onnx(program, path, threads=1, seed=0)
    model = onnx.load(path)
    damage(model)
    onnx.save(model, path)

    with pytest.raises(ExportFailed, match=rf"computes another is {operator} "):
        require_same(program, path, translated, None, threads=1, seed=0)


def test_nothing_differs_in_a_right_export(tmp_path: Path) -> None:
    program, path = loaded(Layers(), tmp_path, torch.zeros(2, 8)), tmp_path / "x.onnx"
    translated = export_onnx(program, path, threads=1, seed=0)
    batch = {"x": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}

    assert first_difference(program, path, translated, batch, 1) is None


class Masked(nn.Module):
    """Attends to what a mask of the keys allows, without looking ahead."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.mix = nn.Embedding(50, 16), nn.Linear(16, 48)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        count = input_ids.shape[1]
        query, key, value = self.mix(self.table(input_ids))[:, None].chunk(3, -1)
        seen = torch.ones(count, count, dtype=torch.bool).tril() & attention_mask[:, None, None, :].bool()
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)


def test_masks_and_ids_that_occur_are_compared(tmp_path: Path) -> None:
    program = loaded(Masked(), tmp_path, torch.ones(2, 6, dtype=torch.long), torch.ones(2, 6, dtype=torch.long))

    assert program.index_ranges == {"input_ids": 50}
    export_onnx(program, tmp_path / "x.onnx", threads=1, seed=0)


def test_values_that_are_undefined_in_the_original_do_not_count() -> None:
    want = np.array([1.0, np.nan, np.inf, 2.0])

    assert distance(np.array([1.0, 5.0, 5.0, 2.0]), want) == 0
    assert distance(np.array([1.0, 5.0, 5.0, np.nan]), want) == np.inf
    assert distance(np.full(4, np.nan), np.full(4, np.nan)) == 0
