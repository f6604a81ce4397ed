"""Noise of sources rounded alone adds up to that of the whole, for any choice of layers."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from app.spec.quantize import QuantizeStatic
from app.spec.signature import Dimension, Signature, TensorSpec
from tests.support.engine.orders import changed, context, model_of
from worker.engine.data.rows import Rows
from worker.engine.model import new_folder
from worker.engine.quantization.sensitivity.greedy import Stage, cost, stages
from worker.engine.quantization.sensitivity.reference import ReferenceOutputs, decibels
from worker.engine.quantization.sensitivity.roundable_graph import RoundableGraph
from worker.engine.quantization.sensitivity.rounding import grid_of, rounded
from worker.engine.quantization.sensitivity.sweep import FLOAT, Sweep, graph_runner, sweep

RANDOM = np.random.default_rng(0)
IMAGE = TensorSpec(name="image", dtype="float32", shape=(Dimension(name="n"), 1, 8, 8))
SIGNATURE = Signature(inputs=(IMAGE,), outputs=())


@pytest.fixture(scope="module")
def swept(digits_folder: Path, digits_calibration: Rows, tmp_path_factory: pytest.TempPathFactory):
    """Digits with 8 and 4 bits: the sweep, its reference_outputs, and a function that measures a stage."""
    folder = tmp_path_factory.mktemp("sweep")
    model = model_of(digits_folder / "digits.onnx", folder)
    plan = changed(QuantizeStatic(), digits_folder / "digits.onnx", folder, digits_calibration).model.plan
    work, subject = context(folder), RoundableGraph.of(plan)
    rows = digits_calibration.sample(64, 0)
    reference_outputs = ReferenceOutputs(graph_runner(plan.graph, work), rows, model.signature, new_folder(folder))
    found = sweep(subject, reference_outputs, (4, 8), work)

    def measured(stage: Stage) -> float:
        weights = {layer: bits for layer, bits in stage.choice.items() if bits != FLOAT}
        path = subject.rounding(weights, subject.values_in(stage.choice), folder / "together.onnx")
        return reference_outputs.read(graph_runner(path, work)).sqnr_db

    return found, reference_outputs, measured


def test_every_stage_is_predicted(swept: tuple[Sweep, ReferenceOutputs, object]) -> None:
    found, _, measured = swept
    every = list(stages(found, dict.fromkeys(found.subject.layers, 4)))
    assert len(every) >= 6
    for stage in every[:-1]:
        error = decibels(stage.noise) - measured(stage)
        assert abs(error) < (2.5 if 4 in stage.choice.values() else 0.6), "4 bits are no small noise"


def test_stages_go_from_narrow_to_float_with_ever_less_noise(swept: tuple[Sweep, ReferenceOutputs, object]) -> None:
    found, reference_outputs, measured = swept
    every = list(stages(found, dict.fromkeys(found.subject.layers, 4)))
    assert set(every[0].choice.values()) == {4}
    assert set(every[-1].choice.values()) == {FLOAT}
    assert all(later.noise <= earlier.noise for earlier, later in pairwise(every))
    assert every[-1].noise == 0
    assert measured(every[-1]) == 300
    assert reference_outputs.right_answers > 0.97
    assert set(next(stages(found, dict.fromkeys(found.subject.layers, 8))).choice.values()) == {8}


def test_a_step_costs_bytes_and_in_floating_point_products(swept: tuple[Sweep, ReferenceOutputs, object]) -> None:
    layers = swept[0].subject.layers
    assert [layer.weights for layer in layers] == [288, 18432, 73728, 65536, 1280]
    assert [layer.macs for layer in layers] == [288 * 64, 18432 * 64, 73728 * 16, 65536, 1280]
    shares = [cost(layer, 8, FLOAT, layers) for layer in layers]
    assert sum(shares) == pytest.approx(24 / 32 + 1)
    assert cost(layers[2], 4, 8, layers) == pytest.approx(73728 / sum(layer.weights for layer in layers) / 8)


@pytest.mark.parametrize(("bits", "codes"), [(8, (-127, 127)), (4, (-8, 7)), (2, (-2, 1))])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weights_are_rounded_to_the_codes_of_their_channel(bits, codes, axis) -> None:
    weight = RANDOM.standard_normal((6, 5, 3)).astype(np.float32)
    grid = grid_of(weight, bits, axis)
    values = rounded(weight, grid)

    assert (grid.low, grid.high) == codes
    assert len(grid.scales) == (1 if axis is None else weight.shape[axis])
    channels = [values] if axis is None else np.moveaxis(values, axis, 0)
    for channel, scale in zip(channels, grid.scales, strict=True):
        assert np.allclose(channel / scale, np.rint(channel / scale), atol=1e-3)
    assert np.square(values - weight).mean() < {8: 1e-4, 4: 0.02, 2: 0.3}[bits]


def test_few_bits_clip_what_is_rare() -> None:
    weight = np.append(RANDOM.standard_normal(4000), 12).astype(np.float32)[None]
    grid = grid_of(weight, 4, 0)
    widest = np.float32(12 / 7)
    plain = np.clip(np.rint(weight / widest), -8, 7) * widest
    assert grid.scales[0] < widest
    assert np.square(rounded(weight, grid) - weight).sum() < 0.8 * np.square(plain - weight).sum()


def test_what_is_only_moved_is_one_source(swept: tuple[Sweep, ReferenceOutputs, object]) -> None:
    """Of digits' nine quantized values three come out of pools and a reshape: they have the codes of their input."""
    assert {name for name, _ in swept[0].values} == {"image", "relu", "relu_1", "relu_2", "relu_3", "logits"}


def test_corrected_biases_are_part_of_the_prediction(
    digits_folder: Path, digits_calibration: Rows, tmp_path: Path
) -> None:
    noise = {}
    for corrected in (False, True):
        step = QuantizeStatic(bias_correction=corrected, per_channel=False)
        plan = changed(step, digits_folder / "digits.onnx", tmp_path, digits_calibration).model.plan
        subject, work = RoundableGraph.of(plan), context(tmp_path)
        model = model_of(digits_folder / "digits.onnx", tmp_path)
        rows = digits_calibration.sample(64, 0)
        reference_outputs = ReferenceOutputs(
            graph_runner(plan.graph, work), rows, model.signature, new_folder(tmp_path)
        )
        path = subject.rounding(dict.fromkeys(subject.layers, 4), {}, tmp_path / "weights.onnx")
        noise[corrected] = reference_outputs.read(graph_runner(path, work)).sqnr_db
    assert noise[True] > noise[False] + 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_longer_finite_drown_the_signal(value: float, digits_test: Rows, tmp_path: Path) -> None:
    reference_outputs = ReferenceOutputs(lambda feeds: {"o": feeds["image"]}, digits_test, SIGNATURE, tmp_path)

    broken = reference_outputs.read(
        lambda feeds: {"o": np.where(feeds["image"] > 0.9, np.float32(value), feeds["image"])}
    )

    assert broken.sqnr_db < -100
    assert reference_outputs.read(lambda feeds: {"o": feeds["image"]}).sqnr_db == 300


def test_right_answers_are_those_of_the_output_that_the_labels_fit(digits_test: Rows, tmp_path: Path) -> None:

    def model(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(feeds["image"])
        return {"guess": np.zeros(count, np.int64), "scores": np.tile(np.eye(10, dtype=np.float32)[3], (count, 1))}

    threes = ReferenceOutputs(model, digits_test, SIGNATURE, tmp_path).right_answers

    assert threes is not None
    assert 0.05 < threes < 0.2
