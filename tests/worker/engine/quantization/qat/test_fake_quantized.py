"""For networks of many kinds: the graph with quantizers computes what the integer kernels compute, untrained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.spec.quantize import Skip
from app.spec.quantize_aware import QuantizeAware
from app.spec.signature import Dimension, Signature, TensorSpec
from tests.support.engine import zoo
from tests.support.engine.orders import context, executed, rows_of
from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.lowering.onnx.static import lower_static
from worker.engine.model import Model, new_folder
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.sessions import session
from worker.engine.quantization.qat.fake_quantized import fake_quantize
from worker.engine.quantization.qat.qat_model import fold, plan_with, qat_model_of, with_weights
from worker.engine.quantization.qat.scales import activation_grids, edges_of, widths_of
from worker.engine.torch_program.program import Program

BATCH = Dimension(name="batch", min=1, max=4096)


class Products(nn.Module):
    """Vectors [rows, 24] to [rows, 5]: matrix products with parameters and transposed parameters, and a layer without
    bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shift = nn.Parameter(torch.randn(24, 40) / 5), nn.Parameter(torch.randn(40))
        self.second, self.last = nn.Parameter(torch.randn(32, 40) / 6), nn.Linear(32, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(x @ self.first + self.shift)
        return self.last(torch.tanh(hidden @ self.second.t()))


class Tied(nn.Module):
    """Vectors [rows, 16] to [rows, 16]: one layer applied twice, and its weight a third time, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        twice = torch.relu(self.layer(torch.relu(self.layer(x))))
        return self.out(twice @ self.layer.weight)


class Dense(nn.Module):
    """Images [rows, 3, 12, 12] to [rows, 6]: norms before convolutions, concatenations; upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.grow = (
            nn.Conv2d(3, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.Conv2d(12, 8, 3, padding=1),
        )
        self.up, self.head = nn.ConvTranspose2d(20, 10, 2, stride=2), nn.Linear(10, 6)
        nn.init.uniform_(self.norm.running_mean, -1, 1)
        nn.init.normal_(self.norm.bias)

    def forward(self, image: Tensor) -> Tensor:
        stem = self.stem(image)
        joined = torch.cat([stem, self.grow(torch.relu(self.norm(stem)))], 1)
        larger = nn.functional.interpolate(torch.relu(self.up(joined)), scale_factor=2.0, mode="bilinear")
        return self.head(larger.mean((2, 3)))


class Upsampling(nn.Module):
    """Images [rows, 4, 8, 8] to [rows, 6]: a transposed convolution of groups."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.out = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), nn.Linear(6, 6)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(torch.relu(self.up(image)).mean((2, 3)))


NETWORKS = {
    "mixed": (zoo.Mixed, "image", (3, 16, 16), 10),
    "transformer": (zoo.TransformerBlock, "tokens", (16,), 4),
    "products": (Products, "x", (24,), 5),
    "tied": (Tied, "x", (16,), 16),
    "dense": (Dense, "image", (3, 12, 12), 6),
    "upsampling": (Upsampling, "image", (4, 8, 8), 6),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_the_kernels_compute(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, given, shape, classes = NETWORKS[name]
    random = np.random.default_rng(0)
    integers = name == "transformer"
    array = random.integers(0, 200, (256, *shape)) if integers else random.standard_normal((256, *shape), np.float32)
    signature = Signature(
        inputs=(TensorSpec(name=given, dtype="int64" if integers else "float32", shape=(BATCH, *shape)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=(BATCH, classes)),),
    )
    program = Program(zoo.program(make(), torch.from_numpy(array[:2])), signature)
    folded, _ = fold(Model(program, signature, new_folder(tmp_path)))
    subject = qat_model_of(folded, Skip())
    step = QuantizeAware(weights="int2", activations="int4")
    widths = widths_of(step, subject.placed, (), edges_of(step, subject.placed))
    rows = rows_of(tmp_path, **{given: array})
    grids = activation_grids(folded.prepared, widths.activations, rows, context(tmp_path))
    fake_quantized = fake_quantize(subject.module, subject.places, subject.placed, grids, widths.weights)

    result = qat_model_of(folded.with_program(with_weights(folded.program, fake_quantized.trained())), Skip())
    lowered = save(lower_static(plan_with(result, fake_quantized, 256), PROFILES["x86"]), tmp_path / "lowered.onnx")[0]
    ours = subject.decomposed.outputs_of(fake_quantized.module.eval(), {given: torch.from_numpy(array)})[
        "scores"
    ].detach()
    theirs = session(lowered, 1).run(None, {given: array})[0]

    assert not subject.floating
    operators = executed(lowered, tmp_path)
    floating = sum(operators[kind] for kind in ("Conv", "FusedConv", "Gemm", "MatMul", "FusedMatMul"))
    assert floating == {"transformer": 4}.get(name, 0)  # attention has products without weights
    assert np.mean(np.abs(ours.numpy() - theirs) < 1e-3 * np.abs(theirs).max()) > 0.99
    assert np.abs(theirs).max() > 0
