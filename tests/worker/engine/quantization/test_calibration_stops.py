"""Graphs and rows that do not run together are a failure that names the cause, or are run in another way."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.spec.quantize import QuantizeStatic
from tests.support.engine.orders import context, lowered, model_of, outputs_of, rows_of
from worker.engine.context import Changed
from worker.engine.passes.table import apply_step
from worker.engine.progress import LogLevel, Unheard
from worker.engine.quantization.errors import CalibrationFailed

Shapes = dict[str, tuple[int, list[int | str]]]
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.standard_normal((16, 4)).astype(np.float32)


class Log(Unheard):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str, level: LogLevel = "info") -> None:
        self.lines.append(f"{level}: {message}")


def graph(
    path: Path, nodes: list[onnx.NodeProto], inputs: Shapes, output: list[int | str], **constants: np.ndarray
) -> Path:
    """A graph with the output `y` and the constants, and the weight `w` [16, 4]."""
    body = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(array, name) for name, array in {**constants, "w": WEIGHT}.items()],
    )
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def calibrated(
    path: Path, folder: Path, log: Log | None = None, observer: str = "minmax", **rows: np.ndarray
) -> Changed:
    asked = context(folder, rows_of(folder, **rows))
    step = QuantizeStatic.model_validate({"observer": observer})
    heard = asked if log is None else type(asked)(**{**vars(asked), "progress": log})
    return apply_step(step, model_of(path, path.parent), heard)


@pytest.mark.parametrize("observer", ["minmax", "percentile", "entropy"])
def test_a_batch_of_one_hidden_in_a_reshape(observer: str, tmp_path: Path) -> None:
    path = graph(
        tmp_path / "one.onnx",
        [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, ["n", 4, 4])},
        ["n", 4],
        shape=np.array([1, 16]),
    )
    x = RANDOM.standard_normal((40, 4, 4)).astype(np.float32)
    log = Log()

    quantized = calibrated(path, tmp_path, log, observer, x=x)

    assert quantized.model.plan.samples == 40
    assert quantized.model.plan.ranges["flat"].high == pytest.approx(x.max(), rel=0.02 if observer != "entropy" else 1)
    (line,) = [line for line in log.lines if line.startswith("warning")]
    assert "one at a time" in line
    file = lowered(quantized.model, "x86", tmp_path)
    assert outputs_of(file, {"x": x[:1]})[0] == pytest.approx(outputs_of(path, {"x": x[:1]})[0], abs=0.3)


def test_another_batch_hidden_in_a_reshape(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "eight.onnx",
        [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, ["n", 4, 4])},
        [8, 4],
        shape=np.array([8, 16]),
    )
    with pytest.raises(CalibrationFailed, match="Reshape") as caught:
        calibrated(path, tmp_path, x=np.zeros((20, 4, 4), np.float32))
    assert "dynamic batch" in caught.value.remedy


def test_an_id_outside_of_the_vocabulary_is_named_with_its_row(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "ids.onnx",
        [helper.make_node("Gather", ["table", "ids"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])],
        {"ids": (TensorProto.INT64, ["n", 3])},
        ["n", 3, 4],
        table=RANDOM.standard_normal((10, 16)).astype(np.float32),
    )
    ids = RANDOM.integers(0, 10, (40, 3))
    ids[37, 1] = 99
    with pytest.raises(CalibrationFailed, match=r"row 37 .*idx=99") as caught:
        calibrated(path, tmp_path, ids=ids)
    assert "vocabulary" in caught.value.remedy
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 600
    assert ".cc:" not in caught.value.detail


def test_inputs_fixed_at_different_sizes(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "two.onnx",
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Gemm", ["h", "w", "b"], ["c"]),
            helper.make_node("ReduceSum", ["c"], ["d"]),
            helper.make_node("Add", ["a", "d"], ["y"]),
        ],
        {"x": (TensorProto.FLOAT, [1, 16]), "h": (TensorProto.FLOAT, [2, 16])},
        [1, 4],
        b=np.zeros(4, np.float32),
    )
    with pytest.raises(CalibrationFailed, match=r"different sizes.*x 1, h 2") as caught:
        calibrated(path, tmp_path, x=np.zeros((6, 16), np.float32), h=np.zeros((6, 16), np.float32))
    assert "first axis of every input" in caught.value.remedy


def test_a_state_whose_first_axis_is_not_the_rows(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "state.onnx",
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("MatMul", ["h0", "w"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["y"]),
        ],
        {"x": (TensorProto.FLOAT, ["n", 16]), "h0": (TensorProto.FLOAT, [2, "m", 16])},
        ["p", "q", 4],
    )
    with pytest.raises(CalibrationFailed, match=r"stops on .*broadcast"):
        calibrated(path, tmp_path, x=np.zeros((6, 16), np.float32), h0=np.zeros((6, 3, 16), np.float32))


def test_more_memory_than_there_is(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "tile.onnx",
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Tile", ["a", "times"], ["b"]),
            helper.make_node("ReduceMax", ["b"], ["y"], keepdims=1),
        ],
        {"x": (TensorProto.FLOAT, ["n", 16])},
        [1, 1],
        times=np.array([1 << 22, 1 << 26]),
    )
    with pytest.raises(CalibrationFailed, match="Tile"):
        calibrated(path, tmp_path, x=np.zeros((6, 16), np.float32))


def masked(path: Path, operator: str) -> Path:
    """`y` is the product, put through an operator that is infinite where the product is."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    nodes += [helper.make_node(operator, ["b"] if operator == "Log" else ["b", "mask"], ["y"])]
    mask = {} if operator == "Log" else {"mask": np.float32([0, 0, -np.inf, 0])}
    return graph(path, nodes, {"x": (TensorProto.FLOAT, ["n", 16])}, ["n", 4], **mask)


@pytest.mark.parametrize("operator", ["Log", "Add"])
def test_infinity_is_a_legitimate_output(operator: str, tmp_path: Path) -> None:
    path = masked(tmp_path / "masked.onnx", operator)
    x = RANDOM.standard_normal((40, 16)).astype(np.float32)
    assert np.isneginf(outputs_of(path, {"x": x})[0]).any()

    quantized = calibrated(path, tmp_path, x=x)

    assert np.isneginf(outputs_of(lowered(quantized.model, "x86", tmp_path), {"x": x})[0]).any()


def test_infinity_in_a_tensor_that_needs_a_range_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Log", ["x"], ["logarithm"]), helper.make_node("MatMul", ["logarithm", "w"], ["y"])]
    path = graph(tmp_path / "log.onnx", nodes, {"x": (TensorProto.FLOAT, ["n", 16])}, ["n", 4])
    x = np.ones((40, 16), np.float32)
    x[3] = 0
    x[3, 1:] = 1
    with pytest.raises(CalibrationFailed, match="logarithm") as caught:
        calibrated(path, tmp_path, x=x)
    assert "skip list" in caught.value.remedy


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Sqrt", ["a"], ["y"])]
    path = graph(tmp_path / "root.onnx", nodes, {"x": (TensorProto.FLOAT, ["n", 16])}, ["n", 4])
    with pytest.raises(CalibrationFailed, match=r"Output y .*NaN"):
        calibrated(path, tmp_path, x=RANDOM.standard_normal((40, 16)).astype(np.float32))
