"""What files may write in several ways is quantized in all of them: the artifact computes what the model does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from app.spec.base import Step
from app.spec.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from app.spec.share import ShareWeights
from tests.support.engine.orders import changed, context, lowered, model_of, outputs_of, rows_of, sqnr_db
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.passes.table import apply_step

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
    return min((sqnr_db(exact, got) for exact, got in pairs if not np.array_equal(exact, got)), default=np.inf)


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
        [value("y", "n", *[None] * (4 if len(shape) > 1 else 3))],
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


STEPS = {
    step.type: step for step in (QuantizeStatic(), QuantizeDynamic(), QuantizeWeights(), ShareWeights(clusters=64))
}


@pytest.mark.parametrize("step", STEPS)
def test_weights_that_are_inputs_as_well(step: str, tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", "n", 32), value("w", 32, 32)],
        [value("y", "n", 32)],
        opset=13,
        ir=3,
        w=floats(32, 32, scale=0.3),
    )
    rows = {"x": floats(48, 32)}
    opened = model_of(model, tmp_path)
    inputs = tuple(entry for entry in opened.signature.inputs if entry.name == "x")  # what has a default is no input
    opened = replace(opened, signature=opened.signature.model_copy(update={"inputs": inputs}))
    result = apply_step(STEPS[step], opened, context(tmp_path, rows_of(tmp_path, **rows)))
    artifact = lowered(result.model, "x86", tmp_path)

    assert fidelity(model, artifact, rows) > 20
    assert [entry.name for entry in onnx.load(artifact).graph.input] == ["x"]


@pytest.mark.parametrize("taken", ["x_scale", "x_zero_point", "x_QuantizeLinear_Output", "y_quantized", "w_scale"])
@pytest.mark.parametrize("role", ["constant", "input", "value", "output"])
@pytest.mark.parametrize("step", ["quantize.static", "quantize.dynamic"])
def test_names_that_the_quantizer_would_give_are_left_alone(step: str, taken: str, role: str, tmp_path: Path) -> None:
    nodes = [node("Mul", ["i", "three"], ["x"]), node("MatMul", ["x", "w"], ["y"]), node("Mul", ["y", taken], ["z"])]
    inputs, outputs = [value("i", "n", 8)], [value("z", "n", 8)]
    rows = {"i": floats(48, 8)}
    constants = {"three": number(3.5), "w": floats(8, 8, scale=0.3)}
    match role:
        case "constant":
            constants[taken] = number(2)
        case "input":
            inputs.append(value(taken, "n", 8))
            rows[taken] = floats(48, 8, seed=7)
        case _:
            nodes.insert(0, node("Abs", ["i"], [taken]))
            outputs += [value(taken, "n", 8)] if role == "output" else []
    model = graph(tmp_path, nodes, inputs, outputs, **constants)

    assert fidelity(model, delivered(STEPS[step], model, tmp_path, **rows), rows) > 25


@pytest.mark.parametrize("taken", ["w/codes", "w/scales", "w/indices", "w/tables", "w/matrix", "w/shaped"])
@pytest.mark.parametrize("step", ["quantize.weights", "share_weights"])
def test_names_that_unpacking_would_give_are_left_alone(step: str, taken: str, tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [node("Mul", ["i", taken], ["x"]), node("MatMul", ["x", "w"], ["y"])],
        [value("i", "n", 32)],
        [value("y", "n", 32)],
        **{taken: np.abs(floats(32)) + 0.5, "w": floats(32, 32, scale=0.3)},
    )
    rows = {"i": floats(48, 32)}
    assert fidelity(model, delivered(STEPS[step], model, tmp_path, **rows), rows) > 25


def test_a_bias_that_is_added_takes_no_name(tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [
            node("Conv", ["x", "w"], ["c"], "conv"),
            node("Add", ["c", "conv/bias"], ["a"]),
            node("Mul", ["c", "a"], ["y"]),
        ],
        [value("x", "n", 4, 8, 8)],
        [value("y", "n", 8, 6, 6)],
        **{"conv/bias": floats(1, 8, 1, 1), "w": CONVOLUTION["w"]},
    )
    assert fidelity(model, delivered(QuantizeStatic(), model, tmp_path, **IMAGES), IMAGES) > 25


@pytest.mark.parametrize("bad", [-np.inf, np.inf])
@pytest.mark.parametrize("step", [step for step in STEPS if step != "quantize.static"])
def test_tables_of_infinite_values_are_left_alone(step: str, bad: float, tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [
            node("Gather", ["mask", "place"], ["g"]),
            node("MatMul", ["x", "w"], ["s"]),
            node("Add", ["s", "g"], ["y"]),
        ],
        [value("x", "n", 16), value("place", "n", dtype=TensorProto.INT64)],
        [value("y", "n", 32)],
        mask=np.where(np.triu(np.ones((32, 32)), 1) > 0, bad, floats(32, 32)).astype(np.float32),
        w=floats(16, 32, scale=0.3),
    )
    rows = {"x": floats(48, 16), "place": np.arange(48) % 32}
    artifact = delivered(STEPS[step], model, tmp_path, **rows)
    (exact,), (got,) = outputs_of(model, rows), outputs_of(artifact, rows)
    finite = np.isfinite(exact)

    assert np.array_equal(exact[~finite], got[~finite])
    assert sqnr_db(exact[finite], got[finite]) > 20


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("hidden", [8, 16])
def test_a_weight_read_along_both_axes(hidden: int, profile: str, tmp_path: Path) -> None:
    weight = (floats(hidden, 8, scale=0.3) * np.geomspace(0.05, 10, 8)).astype(np.float32)
    model = graph(
        tmp_path,
        [
            node("Gemm", ["x", "w"], ["h"], transB=1),
            node("Relu", ["h"], ["r"]),
            node("MatMul", ["r", "w"], ["y"]),
        ],
        [value("x", "n", 8)],
        [value("y", "n", 8)],
        w=weight,
    )
    rows = {"x": floats(48, 8)}
    for step in (QuantizeStatic(), QuantizeDynamic()) if profile != "tensorrt" else (QuantizeStatic(),):
        assert fidelity(model, delivered(step, model, tmp_path, profile, **rows), rows) > 25


def test_a_kernel_that_goes_back_the_way_it_came(tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [node("Conv", ["x", "w"], ["c"]), node("ConvTranspose", ["c", "w"], ["y"])],
        [value("x", "n", 4, 8, 8)],
        [value("y", "n", 4, 8, 8)],
        w=(CONVOLUTION["w"] * np.geomspace(0.3, 3, 8)[:, None, None, None]).astype(np.float32),
    )
    assert fidelity(model, delivered(QuantizeStatic(), model, tmp_path, **IMAGES), IMAGES) > 25


@pytest.mark.parametrize("skipped", ["first", "second"])
def test_a_layer_on_the_skip_list_reads_floats_though_its_weight_is_another_ones(skipped: str, tmp_path: Path) -> None:
    model = graph(
        tmp_path,
        [node("MatMul", ["x", "w"], ["h"], "first"), node("MatMul", ["x", "w"], ["k"], "second")],
        [value("x", "n", 8)],
        [value("h", "n", 8), value("k", "n", 8)],
        w=floats(8, 8, scale=0.3),
    )
    rows = {"x": floats(48, 8)}
    artifact = delivered(QuantizeStatic(skip={"nodes": [skipped]}), model, tmp_path, **rows)
    index = GraphIndex(onnx.load(artifact).graph)
    read = {entry.name: entry.input[1] for entry in index.graph.node}

    assert index.is_float(read[skipped])
    assert not index.is_float(read["second" if skipped == "first" else "first"])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("form", ["MatMul", "Gemm"])
def test_a_layer_that_is_applied_four_times_is_stored_once(form: str, step: str, tmp_path: Path) -> None:
    """As exporters write it: a weight for each call."""
    weights = {f"w{number}": floats(64, 64, scale=0.1) for number in range(4)}
    nodes = [node(form, [f"h{number}", f"w{number}"], [f"h{number + 1}"]) for number in range(4)]
    model = graph(tmp_path, nodes, [value("h0", "n", 64)], [value("h4", "n", 64)], **weights)
    rows = {"h0": floats(48, 64)}
    artifact = delivered(STEPS[step], model, tmp_path, **rows)

    assert artifact.stat().st_size < 0.15 * model.stat().st_size
    assert fidelity(model, artifact, rows) > 20


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("form", ["MatMul", "Gemm", "folded"])
def test_an_embedding_tied_to_the_last_layer_is_stored_once(form: str, step: str, tmp_path: Path) -> None:
    table = floats(500, 32)
    last = {
        "MatMul": [node("Transpose", ["table"], ["turned"], perm=[1, 0]), node("MatMul", ["h", "turned"], ["y"])],
        "Gemm": [node("Gemm", ["h", "table"], ["y"], transB=1)],
        "folded": [node("MatMul", ["h", "turned"], ["y"])],
    }[form]
    model = graph(
        tmp_path,
        [node("Gather", ["table", "ids"], ["e"]), node("MatMul", ["e", "w"], ["h"]), *last],
        [value("ids", "n", dtype=TensorProto.INT64)],
        [value("y", "n", 500)],
        table=table,
        w=floats(32, 32, scale=0.2),
        **({"turned": np.ascontiguousarray(table.T)} if form == "folded" else {}),
    )
    rows = {"ids": np.random.default_rng(0).integers(0, 500, 64)}
    artifact = delivered(STEPS[step], model, tmp_path, **rows)

    assert artifact.stat().st_size < 0.45 * table.nbytes
    assert fidelity(model, artifact, rows) > 20
