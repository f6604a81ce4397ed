"""Codes that training fixed are those of the delivered graph, whatever container a profile has for them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.spec.quantize import QuantizeStatic
from tests.support.engine.orders import changed, executed, lowered, outputs_of, rows_of
from worker.engine.model import Model
from worker.engine.plan.plan import Grid, StaticPlan

WIDER = 1.25
"""Scales that no range could have led to."""


def weights_of(plan: StaticPlan) -> dict[str, np.ndarray]:
    graph = onnx.load(plan.graph).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {node.input[1]: constants[node.input[1]] for node in graph.node if node.op_type == "Conv"}


def activation_grid(low: float, high: float, codes: int) -> Grid:
    scale = float(np.float32(WIDER * (high - low) / (codes - 1)))
    return Grid((scale,), 0, codes - 1, zero_point=round(-low / scale))


def weight_grid(weight: np.ndarray, most: int) -> Grid:
    scales = WIDER * np.abs(weight).reshape(len(weight), -1).max(1) / most
    return Grid(tuple(map(float, scales.astype(np.float32))), -most, most, axis=0)


@pytest.fixture(scope="module")
def calibrated(resnet18: Path, photos: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    folder = tmp_path_factory.mktemp("calibrated")
    return changed(QuantizeStatic(), resnet18, folder, rows_of(folder, image=photos)).model, folder


def with_grids(model: Model, *, codes: int, most: int) -> Model:
    plan = model.plan
    grids = {name: activation_grid(one.low, one.high, codes) for name, one in plan.ranges.items()}
    grids |= {name: weight_grid(weight, most) for name, weight in weights_of(plan).items()}
    return replace(model, plan=replace(plan, grids=grids))


def constants_of(file: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}


@pytest.mark.parametrize(("profile", "shift"), [("x86", 0), ("arm", 128)])
def test_scales_and_zero_points_are_kept_to_the_bit(profile, shift, calibrated) -> None:
    model = with_grids(calibrated[0], codes=256, most=127)
    file = lowered(model, profile, calibrated[1])
    constants = constants_of(file)

    kept = [name for name in model.plan.grids if f"{name}_scale" in constants]
    weights = weights_of(model.plan)
    assert len(kept) >= 20 + 17 + 8
    for name in kept:
        grid = model.plan.grids[name]
        assert np.array_equal(constants[f"{name}_scale"].ravel(), np.array(grid.scales, np.float32))
        assert np.all(constants[f"{name}_zero_point"] == grid.zero_point - (0 if name in weights else shift))


def test_kernels_stay_integer(calibrated, tmp_path: Path) -> None:
    operators = executed(lowered(with_grids(calibrated[0], codes=256, most=127), "x86", tmp_path), tmp_path)

    assert operators["QLinearConv"] == 20
    assert operators["QLinearAdd"] == 8


def test_weights_wider_than_7_bits_are_narrowed_where_products_saturate(calibrated, tmp_path: Path) -> None:
    wide = constants_of(lowered(with_grids(calibrated[0], codes=256, most=127), "x86-legacy", tmp_path))
    name = next(iter(weights_of(calibrated[0].plan)))
    assert np.abs(wide[f"{name}_quantized"].astype(int)).max() == 64

    model = with_grids(calibrated[0], codes=256, most=63)
    narrow = constants_of(lowered(model, "x86-legacy", tmp_path))
    assert np.array_equal(narrow[f"{name}_scale"], np.array(model.plan.grids[name].scales, np.float32))


def codes_used(file: Path, inputs: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """For each quantized activation, by the name of its scale: the different multiples of the scale it takes."""
    model, constants = onnx.load(file), constants_of(file)
    present = {value.name for value in model.graph.output}
    scales = {
        node.output[0]: node.input[1]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] not in constants
    }
    shown = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in scales.keys() - present]
    model.graph.output.extend(shown)
    onnx.save(model, folder / "shown.onnx")
    names = [value.name for value in model.graph.output]
    values = dict(zip(names, outputs_of(folder / "shown.onnx", inputs), strict=True))
    return {scale: np.unique(np.rint(values[name] / constants[scale])) for name, scale in scales.items()}


@pytest.mark.parametrize("profile", ["x86", "arm", "tensorrt"])
def test_16_codes_are_all_that_passes(profile, calibrated, photos: np.ndarray, tmp_path: Path) -> None:
    """Ranges a tenth as wide as the values: whatever is not cut at the last code would be seen."""
    plan = calibrated[0].plan
    tight = {name: activation_grid(0.1 * one.low, 0.1 * one.high, 16) for name, one in plan.ranges.items()}
    model = replace(calibrated[0], plan=replace(plan, grids=tight))

    used = codes_used(lowered(model, profile, tmp_path), {"image": photos}, tmp_path)

    assert len(used) >= 17
    assert {len(codes) for codes in used.values()} <= set(range(2, 17))
    assert max(codes.max() - codes.min() for codes in used.values()) == 15


def test_limited_codes_leave_the_kernels_integer(calibrated, photos: np.ndarray, tmp_path: Path) -> None:
    model = with_grids(calibrated[0], codes=16, most=7)
    file = lowered(model, "x86", tmp_path)
    operators = executed(file, tmp_path)

    assert operators["QLinearConv"] == 20
    assert operators["Clip"] >= 17
    signed = outputs_of(lowered(model, "arm", tmp_path), {"image": photos})[0]
    assert np.mean(outputs_of(file, {"image": photos})[0] == signed) > 0.99
