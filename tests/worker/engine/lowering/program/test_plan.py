"""A plan on the program's own graph computes what the same plan computes as an ONNX file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from app.spec.quantize import LARGEST_BLOCK, QuantizeDynamic, QuantizeStatic, QuantizeWeights
from tests.support.engine import zoo
from tests.support.engine.orders import lowered
from tests.support.engine.planned_programs import AVERAGES, IMAGES, TOKENS, decibels, planned
from tests.support.engine.pruned_networks import as_program
from worker.engine.errors import PlanNotSupported
from worker.engine.lowering.program.plan import quantized_program
from worker.engine.model import Model, new_folder
from worker.engine.plan.plan import Grid, StaticPlan, WeightsPlan


def compared(model: Model, directory: Path, **inputs: np.ndarray) -> tuple[float, float]:
    """Decibels of the program with codes against the ONNX file of the same plan, and against the float model.

    The file is run operator by operator, as the program is.
    """
    (actual,) = quantized_program(model).program(inputs).values()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    file = onnxruntime.InferenceSession(lowered(model, "arm", directory), options, ["CPUExecutionProvider"])
    (delivered,) = file.run(None, inputs)
    (exact,) = model.program(inputs).values()
    return decibels(delivered, actual), decibels(exact, actual)


@pytest.mark.parametrize(
    "options", [{}, {"equalize": True}, {"per_channel": False}, {"bias_correction": False}], ids=str
)
def test_a_static_plan_of_a_convolutional_network_is_that_of_the_onnx_file(
    options: dict[str, bool], tmp_path: Path
) -> None:
    model = planned(
        zoo.Mixed().eval(), QuantizeStatic.model_validate({"skip": AVERAGES, **options}), tmp_path, image=IMAGES
    )

    to_onnx, to_float = compared(model, tmp_path, image=IMAGES)

    assert to_onnx > 50
    assert to_float > 30


@pytest.mark.parametrize("options", [{}, {"smooth": True}], ids=str)
def test_a_static_plan_of_a_transformer_is_that_of_the_onnx_file(options: dict[str, bool], tmp_path: Path) -> None:
    model = planned(zoo.TransformerBlock().eval(), QuantizeStatic.model_validate(options), tmp_path, tokens=TOKENS)

    to_onnx, to_float = compared(model, tmp_path, tokens=TOKENS)

    assert to_onnx > 40
    assert to_float > 15


def test_a_dynamic_plan_rounds_every_matrix_product(tmp_path: Path) -> None:
    model = planned(zoo.TransformerBlock().eval(), QuantizeDynamic(), tmp_path, tokens=TOKENS)

    made = quantized_program(model)

    (exact,), (actual,) = model.program({"tokens": TOKENS}).values(), made.program({"tokens": TOKENS}).values()
    assert made.layers == 9
    assert len(made.left) == 1, "the embedding"
    assert decibels(exact, actual) > 25
    names = [str(node.target) for node in made.program.exported.graph.nodes]
    assert sum("choose_qparams" in name for name in names) == 9


@pytest.mark.parametrize(("bits", "least"), [("int8", 45), ("int4", 15)])
def test_stored_weights_keep_their_codes(bits: str, least: float, tmp_path: Path) -> None:
    step = QuantizeWeights.model_validate({"weights": bits, "symmetric": True, "block": LARGEST_BLOCK})
    model = planned(zoo.TransformerBlock().eval(), step, tmp_path, tokens=TOKENS)

    made = quantized_program(model)

    (exact,), (actual,) = model.program({"tokens": TOKENS}).values(), made.program({"tokens": TOKENS}).values()
    assert isinstance(model.plan, WeightsPlan)
    assert made.layers == len(model.plan.weights) - 1
    assert made.left == ("embedding.weight",)
    assert made.notes == ("Left in floating point, for want of an integer form: embedding.weight.",)
    assert decibels(exact, actual) > least


def test_learned_codes_are_kept(tmp_path: Path) -> None:
    model = planned(zoo.Mixed().eval(), QuantizeStatic(skip=AVERAGES, bias_correction=False), tmp_path, image=IMAGES)
    plan = model.plan
    assert isinstance(plan, StaticPlan)
    weight = next(name for name in _weights(plan) if name.startswith("stem"))
    grids = {weight: Grid((0.125,) * 16, -8, 7, axis=0), "image": Grid((0.25,), 0, 15, zero_point=8)}
    learned = replace(model, plan=replace(plan, grids=grids))

    program = quantized_program(learned).program
    stored = program.exported.state_dict | program.exported.constants

    scales = [one for name, one in stored.items() if name.endswith("_scales") and one.shape == (16,)]
    codes = [one for name, one in stored.items() if name.endswith("_codes") and one.shape == (16, 3, 3, 3)]
    assert any(torch.equal(one, torch.full((16,), 0.125)) for one in scales)
    assert codes[0].min() >= -8
    assert codes[0].max() <= 7
    clamps = [node for node in program.exported.graph.nodes if "hardtanh" in str(node.target)]
    assert (-2.0, 1.75) in [tuple(node.args[1:]) for node in clamps]
    assert compared(learned, tmp_path, image=IMAGES)[0] > 50


def test_a_skipped_layer_stays_in_floating_point(tmp_path: Path) -> None:
    everything = planned(zoo.Mixed().eval(), QuantizeStatic(), tmp_path, image=IMAGES)
    skip = {"skip": {"operators": ["Gemm"]}}
    fewer = planned(zoo.Mixed().eval(), QuantizeStatic.model_validate(skip), tmp_path, image=IMAGES)

    assert quantized_program(everything).layers == quantized_program(fewer).layers + 2


def test_what_has_no_plan_is_refused(tmp_path: Path) -> None:
    program = as_program(zoo.Mixed().eval(), {"image": torch.zeros(2, 3, 16, 16)})
    with pytest.raises(PlanNotSupported):
        quantized_program(Model(program, program.signature, new_folder(tmp_path)))


def test_every_target_of_a_job_works_from_one_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports = []
    export = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **named: exports.append(args) or export(*args, **named))

    model = planned(zoo.Mixed().eval(), QuantizeStatic(), tmp_path, image=IMAGES)
    first, second = quantized_program(model), quantized_program(model)

    assert len(exports) == 1
    (one,), (other,) = (made.program({"image": IMAGES}).values() for made in (first, second))
    assert np.array_equal(one, other)
    pruned = replace(model, plan=None).with_program(model.program)
    assert pruned.translated.exported is not model.translated.exported, "a changed program is exported anew"


def _weights(plan: StaticPlan) -> list[str]:
    return [one.name for one in onnx.load(plan.graph).graph.initializer]
