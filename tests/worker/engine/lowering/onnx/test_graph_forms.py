"""What files may write in several ways is quantized in all of them: the artifact computes what the model does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from app.spec.base import Step
from app.spec.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from app.spec.share import ShareWeights
from tests.support.engine.orders import changed, lowered, outputs_of, rows_of, sqnr_db
from worker.engine.onnx_graph.sessions import session

PROFILES = ("x86", "x86-legacy", "arm", "tensorrt")


def floats(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def value(name: str, *shape: int | str | None, dtype: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def graph(
    directory: Path,
    nodes: list[NodeProto],
    inputs: list[ValueInfoProto],
    outputs: list[ValueInfoProto],
    opset: int = 20,
    ir: int = 9,
    **constants: np.ndarray,
) -> Path:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", inputs, outputs, tensors),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir,
    )
    onnx.save(model, directory / "model.onnx")
    return directory / "model.onnx"


def delivered(step: Step, model: Path, directory: Path, profile: str = "x86", **rows: np.ndarray) -> Path:
    return lowered(changed(step, model, directory, rows_of(directory, **rows)).model, profile, directory)


def fidelity(model: Path, artifact: Path, rows: dict[str, np.ndarray]) -> float:
    """Signal to noise of the worst output, dB."""
    pairs = zip(outputs_of(model, rows), outputs_of(artifact, rows), strict=True)
    return min(sqnr_db(exact, got) for exact, got in pairs)


def node(operator: str, inputs: list[str], outputs: list[str], name: str = "", **attributes: object) -> NodeProto:
    return helper.make_node(operator, inputs, outputs, name or outputs[0], **attributes)


CONVOLUTION = {"w": floats(8, 4, 3, 3, scale=0.3, seed=1), "b": floats(8, scale=0.3, seed=2)}
IMAGES = {"x": floats(16, 4, 8, 8, seed=3)}


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("last", ["Relu", "Clip"])
def test_clamps_in_a_row(profile: str, last: str, tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [
            node("Conv", ["x", "w", "b"], ["c"]),
            node("Clip", ["c", "low", "high"], ["k"]),
            node("Relu", ["k"], ["l"]),
            node(last, ["l"], ["y"]),
        ],
        [value("x", "n", 4, 8, 8)],
        [value("y", "n", 8, 6, 6)],
        low=number(-1),
        high=number(1),
        **CONVOLUTION,
    )
    assert fidelity(model, delivered(QuantizeStatic(), model, tmp_path, profile, **IMAGES), IMAGES) > 25


@pytest.mark.parametrize(("low", "high"), [(0.5, 6.0), (-6.0, -0.5), (None, -0.25), (0.25, None), (-0.5, 0.5)])
@pytest.mark.parametrize("product", ["Conv", "Gemm"])
@pytest.mark.parametrize("profile", PROFILES)
def test_no_answer_lies_beyond_a_clamp(
    product: str, low: float | None, high: float | None, profile: str, tmp_path: Path
) -> None:
    bounds = {name: number(end) for name, end in (("low", low), ("high", high)) if end is not None}
    clip = node("Clip", ["c", "low" if low is not None else "", "high" if high is not None else ""], ["y"])
    convolves = product == "Conv"
    rows = IMAGES if convolves else {"x": floats(32, 16, seed=4)}
    weights = CONVOLUTION if convolves else {"w": floats(16, 8, scale=0.3), "b": floats(8, scale=0.3)}
    model = graph(
        tmp_path,
        [node(product, ["x", "w", "b"], ["c"]), clip],
        [value("x", "n", *rows["x"].shape[1:])],
        [value("y", "n", *((8, 6, 6) if convolves else (8,)))],
        **bounds,
        **weights,
    )
    artifact = delivered(QuantizeStatic(), model, tmp_path, profile, **rows)

    assert fidelity(model, artifact, rows) > 25
    (answers,) = outputs_of(artifact, {"x": 3 * rows["x"]})
    assert answers.min() >= (-np.inf if low is None else low) - 0.02
    assert answers.max() <= (np.inf if high is None else high) + 0.02


def test_a_clamp_that_was_always_at_its_bound_stays(tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [node("Conv", ["x", "w", "b"], ["c"]), node("Clip", ["c", "", "high"], ["y"])],
        [value("x", "n", 4, 8, 8)],
        [value("y", "n", 8, 6, 6)],
        high=number(0),
        w=CONVOLUTION["w"],
        b=np.full(8, 30, np.float32),
    )
    (answers,) = outputs_of(delivered(QuantizeStatic(), model, tmp_path, **IMAGES), IMAGES)

    assert answers.max() == 0


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("product", ["Conv", "Gemm"])
def test_a_value_that_is_an_output_keeps_its_own_range(product: str, profile: str, tmp_path: Path) -> None:
    convolves = product == "Conv"
    rows = IMAGES if convolves else {"x": floats(32, 16, seed=4)}
    weights = CONVOLUTION if convolves else {"w": floats(16, 8, scale=0.3), "b": floats(8, scale=0.3)}
    shape = (8, 6, 6) if convolves else (8,)
    model = graph(
        tmp_path,
        [node(product, ["x", "w", "b"], ["features"]), node("Relu", ["features"], ["y"])],
        [value("x", "n", *rows["x"].shape[1:])],
        [value("y", "n", *shape), value("features", "n", *shape)],
        **weights,
    )
    assert fidelity(model, delivered(QuantizeStatic(), model, tmp_path, profile, **rows), rows) > 25


def test_a_value_that_a_branch_reads_keeps_its_own_range(tmp_path: Path) -> None:
    branches = {
        f"{name}_branch": helper.make_graph([node(operator, ["c"], [name])], name, [], [value(name, "n", 8, 6, 6)])
        for name, operator in (("then", "Identity"), ("else", "Neg"))
    }
    model = graph(
        tmp_path,
        [
            node("Conv", ["x", "w", "b"], ["c"]),
            node("Relu", ["c"], ["y"]),
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Greater", ["sum", "zero"], ["positive"]),
            node("If", ["positive"], ["z"], **branches),
        ],
        [value("x", "n", 4, 8, 8)],
        [value("y", "n", 8, 6, 6), value("z", "n", 8, 6, 6)],
        zero=number(0),
        **CONVOLUTION,
    )
    assert fidelity(model, delivered(QuantizeStatic(), model, tmp_path, **IMAGES), IMAGES) > 25


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("bias", [(1, 16), (), (1,), (1, 1), (32, 16), (32, 1)])
@pytest.mark.parametrize("transposed", [0, 1])
def test_biases_of_every_shape_that_broadcasts(
    bias: tuple[int, ...], transposed: int, profile: str, tmp_path: Path
) -> None:
    batch = 32 if bias[:1] == (32,) else "n"
    model = graph(
        tmp_path,
        [node("Gemm", ["x", "w", "b"], ["h"], transB=transposed), node("MatMul", ["h", "v"], ["y"])],
        [value("x", batch, 8)],
        [value("y", batch, 4)],
        w=floats(*((16, 8) if transposed else (8, 16)), scale=0.3),
        b=floats(*bias, seed=5),
        v=floats(16, 4, scale=0.3),
    )
    rows = {"x": floats(32, 8, seed=4)}
    for step in (QuantizeStatic(), QuantizeDynamic()) if profile != "tensorrt" else (QuantizeStatic(),):
        assert fidelity(model, delivered(step, model, tmp_path, profile, **rows), rows) > 25


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 1, 2), (6, 2, 3)])
def test_transposed_convolutions_of_groups(shape: tuple[int, ...], profile: str, tmp_path: Path) -> None:
    groups = 4 if shape[1] == 1 else 2
    rank = len(shape) - 2
    model = graph(
        tmp_path,
        [node("ConvTranspose", ["x", "w", "b"], ["y"], group=groups, strides=[2] * rank)],
        [value("x", "n", shape[0], *[8] * rank)],
        [value("y", "n", groups * shape[1], *[None] * rank)],
        w=floats(*shape, scale=0.3),
        b=floats(groups * shape[1], scale=0.3),
    )
    rows = {"x": floats(32, shape[0], *[8] * rank)}
    assert fidelity(model, delivered(QuantizeStatic(), model, tmp_path, profile, **rows), rows) > 25


@pytest.mark.parametrize("shape", [(3, 8, 6), (2, 3, 8, 6), (1, 8, 6), (8,)])
def test_products_with_stacks_of_matrices(shape: tuple[int, ...], tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [node("MatMul", ["x", "m"], ["h"]), node("MatMul", ["h", "w"], ["y"], "heads")],
        [value("x", "n", 2, 3, 5, 4)],
        [value("y", "n", *[None] * (len(shape) > 1 and 4 or 3))],
        m=floats(4, 8, scale=0.3),
        w=floats(*shape, scale=0.3),
    )
    rows = {"x": floats(16, 2, 3, 5, 4)}
    for step in (QuantizeStatic(), QuantizeDynamic()):
        assert fidelity(model, delivered(step, model, tmp_path, **rows), rows) > 25


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1},
        {"ceil_mode": 1, "count_include_pad": 1},
        {"dilations": [2, 2]},
        {"auto_pad": "SAME_LOWER", "count_include_pad": 1},
        {},
    ],
)
def test_average_pools_of_every_kind(attributes: dict[str, object], tmp_path: Path) -> None:
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], **attributes}
    model = graph(
        tmp_path,
        [
            node("Conv", ["x", "w", "b"], ["c"]),
            node("AveragePool", ["c"], ["p"], **pool),
            node("Conv", ["p", "w2"], ["y"]),
        ],
        [value("x", "n", 4, 8, 8)],
        [value("y", "n", 4, None, None)],
        w=floats(8, 4, 1, 1, scale=0.3),
        b=floats(8, scale=0.3) + 1,
        w2=floats(4, 8, 1, 1, scale=0.3),
    )
    assert fidelity(model, delivered(QuantizeStatic(), model, tmp_path, **IMAGES), IMAGES) > 28


@pytest.mark.parametrize(
    "step",
    [QuantizeStatic(), QuantizeDynamic(), QuantizeWeights(), ShareWeights(clusters=64)],
    ids=lambda one: one.type,
)
def test_weights_that_are_inputs_as_well(step: Step, tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", "n", 32), value("w", 32, 32)],
        [value("y", "n", 32)],
        opset=13,
        ir=3,
        w=floats(32, 32, scale=0.3),
    )
    # An input with a default is no input of the signature.
    plain = onnx.load(model)
    described = [entry for entry in plain.graph.input if entry.name == "x"]
    rows = {"x": floats(48, 32)}
    exact = session(model, 1).run(None, rows)
    artifact = _delivered_with(step, model, described, tmp_path, rows)

    assert sqnr_db(exact[0], outputs_of(artifact, rows)[0]) > 20
    assert [entry.name for entry in onnx.load(artifact).graph.input] == ["x"]


def _delivered_with(
    step: Step, model: Path, inputs: list[ValueInfoProto], directory: Path, rows: dict[str, np.ndarray]
) -> Path:
    from dataclasses import replace

    from tests.support.engine.orders import context, model_of
    from worker.engine.passes.table import apply_step

    opened = model_of(model, directory)
    names = {entry.name for entry in inputs}
    signature = opened.signature.model_copy(
        update={"inputs": tuple(one for one in opened.signature.inputs if one.name in names)}
    )
    result = apply_step(step, replace(opened, signature=signature), context(directory, rows_of(directory, **rows)))
    return lowered(result.model, "x86", directory)


def names_of(model: ModelProto) -> list[str]:
    return [
        *(tensor.name for tensor in model.graph.initializer),
        *(out for one in model.graph.node for out in one.output),
    ]
