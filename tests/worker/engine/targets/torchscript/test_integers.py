"""LibTorch's quantized operators compute what the program with codes says."""

from pathlib import Path

import pytest
import torch

from app.spec.quantize import QuantizeStatic
from tests.support.engine import zoo
from tests.support.engine.planned_programs import AVERAGES, IMAGES, TOKENS, decibels, planned
from worker.engine.lowering.program.plan import quantized_program
from worker.engine.targets.torchscript.integers import use_integers
from worker.engine.targets.torchscript.script import compiled, positional
from worker.engine.torch_program.program import quiet


@pytest.mark.parametrize("engine", ["x86", "qnnpack"])
def test_additions_clamps_and_groups_are_fused(engine: str, tmp_path: Path) -> None:
    model = planned(zoo.Mixed().eval(), QuantizeStatic(skip=AVERAGES), tmp_path, image=IMAGES)
    made = quantized_program(model)
    module = made.program.graph_module()
    torch.backends.quantized.engine = engine

    layers = use_integers(module)

    names = [str(node.target) for node in module.graph.nodes]
    assert layers == made.layers
    assert sum("quantized.add" in name for name in names) == 1
    assert not any("quantized_decomposed" in name or "hardtanh" in name or "aten.relu" in name for name in names)
    (expected,) = made.program({"image": IMAGES}).values()
    with quiet():
        actual = compiled(positional(made.program, module))(torch.from_numpy(IMAGES)).numpy()
    assert decibels(expected, actual) > 30
    (exact,) = model.program({"image": IMAGES}).values()
    assert decibels(exact, actual) > 25


def test_a_transformer_keeps_what_has_no_integer_form_in_floats(tmp_path: Path) -> None:
    model = planned(zoo.TransformerBlock().eval(), QuantizeStatic(), tmp_path, tokens=TOKENS)
    made = quantized_program(model)
    module = made.program.graph_module()

    assert use_integers(module) == made.layers

    (expected,) = made.program({"tokens": TOKENS}).values()
    actual = compiled(positional(made.program, module))(torch.from_numpy(TOKENS)).numpy()
    assert decibels(expected, actual) > 30
