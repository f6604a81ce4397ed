"""Outputs are called by the keys that the author gave them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from app.admission import admit_model

DYNAMIC = ({0: torch.export.Dim.DYNAMIC},)


class Returning(nn.Module):
    """Two linear layers, and what `nest` makes of their results."""

    def __init__(self, nest: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.nest = nn.Linear(4, 3), nn.Linear(4, 2), nest

    def forward(self, x: Tensor) -> Any:
        return self.nest(self.a(x), self.b(x))


@pytest.mark.parametrize(
    ("nest", "names"),
    [
        (lambda a, b: {"tags": a, "box": b}, ("tags", "box")),
        (lambda a, b: {"head": {"tags": a, "boxes": [b, b + 1]}}, ("head_tags", "head_boxes_0", "head_boxes_1")),
        (lambda a, b: ({"tags": a}, {"tags": b}), ("linear", "linear_1")),
        (lambda a, b: ({"tags": a}, {"box": b}), ("tags", "box")),
        (lambda a, b: {"tags": a, "again": a}, ("tags", "again")),
        (lambda a, b: {"x": a, "class": b}, ("linear", "linear_1")),
        (lambda a, b: {"last hidden": a, "b": b}, ("linear", "b")),
        (lambda a, b: (a, b), ("linear", "linear_1")),
    ],
)
def test_keys_are_names(exported: Any, nest: Callable[[Tensor, Tensor], Any], names: tuple[str, ...]) -> None:
    path: Path = exported("returned", Returning(nest), torch.randn(2, 4), dynamic_shapes=DYNAMIC)

    outputs = admit_model(path, max_inflated_bytes=1 << 30).signature.outputs

    assert tuple(spec.name for spec in outputs) == names
