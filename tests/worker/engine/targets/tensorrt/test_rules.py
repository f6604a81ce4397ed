"""Every rule of TensorRT: a graph that breaks it, what is said, and the sound graph beside it."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from worker.engine.targets.tensorrt.operators import table
from worker.engine.targets.tensorrt.releases import RELEASES
from worker.engine.targets.tensorrt.rules import NODE_RULES, RuleViolated, require_rules, violations

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
TRT10, TRT11 = RELEASES["trt10"], RELEASES["trt11"]


def value(name: str, kind: int = FLOAT, shape: tuple = ("n", 3, 8, 8)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(operator: str, inputs: str, outputs: str = "y", **attributes: object) -> NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), f"the_{operator}", **attributes)


def model(
    *nodes: NodeProto,
    opset: int = 20,
    inputs: tuple = (value("x"),),
    output: tuple = (FLOAT, None),
    **constants: object,
) -> ModelProto:
    """A graph from x to y. Constants are arrays."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        list(inputs),
        [helper.make_tensor_value_info("y", *output)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def quantized(change: Callable[[GraphProto], None] = lambda _graph: None, opset: int = 20) -> ModelProto:
    """A convolution between Q/DQ pairs, as TensorRT wants it."""
    made = model(
        node("QuantizeLinear", "x scale zero", "xq"),
        node("DequantizeLinear", "xq scale zero", "xf"),
        node("DequantizeLinear", "w w_scale w_zero", "wf", axis=0),
        node("Conv", "xf wf"),
        opset=opset,
        scale=np.float32(0.02),
        zero=np.int8(0),
        w=np.ones((4, 3, 3, 3), np.int8),
        w_scale=np.full(4, 0.01, np.float32),
        w_zero=np.zeros(4, np.int8),
    )
    change(made.graph)
    return made


def replaced(name: str, array: np.ndarray | np.generic) -> Callable[[GraphProto], None]:
    def change(graph: GraphProto) -> None:
        next(one for one in graph.initializer if one.name == name).CopyFrom(
            numpy_helper.from_array(np.asarray(array), name)
        )

    return change


def int4(block: int = 64, kind: int = TensorProto.INT4, operator: str = "MatMul") -> ModelProto:
    """A product with a weight [128, 16] of 4 bits, in blocks along its inputs."""
    made = model(
        node("DequantizeLinear", "w w_scale w_zero", "wf", axis=0, block_size=block),
        node(operator, "x wf"),
        opset=21,
        inputs=(value("x", shape=("n", 128)),),
        w_scale=np.ones((128 // block, 16), np.float32),
    )
    zeros = (128 // block, 16)
    made.graph.initializer.append(helper.make_tensor("w", kind, (128, 16), np.zeros(128 * 16, np.int8)))
    made.graph.initializer.append(helper.make_tensor("w_zero", kind, zeros, np.zeros(zeros, np.int8).reshape(-1)))
    return made


def uint8_activations(graph: GraphProto) -> None:
    replaced("zero", np.uint8(0))(graph)


def no_zero_point(graph: GraphProto) -> None:
    del graph.node[0].input[2]


def computed_scale(graph: GraphProto) -> None:
    graph.node.insert(0, node("ReduceMax", "x", "loudest", keepdims=0))
    graph.node[1].input[1] = "loudest"


def wrong_axis(graph: GraphProto) -> None:
    graph.node[2].attribute[0].i = 1
    replaced("w_scale", np.full(3, 0.01, np.float32))(graph)
    replaced("w_zero", np.zeros(3, np.int8))(graph)


def quantized_bias(graph: GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.int32), "b"))
    graph.initializer.append(numpy_helper.from_array(np.full(4, 0.01, np.float32), "b_scale"))
    graph.node.insert(0, node("DequantizeLinear", "b b_scale", "bf", axis=0))
    graph.node[-1].input.append("bf")


def clipped_codes(graph: GraphProto) -> None:
    for name, bound in (("low", -100), ("high", 100)):
        graph.initializer.append(numpy_helper.from_array(np.array(bound, np.int8), name))
    graph.node.insert(1, node("Clip", "xq low high", "xc"))
    graph.node[2].input[0] = "xc"


def loop() -> ModelProto:
    body = helper.make_graph(
        [node("Identity", "on", "on_out"), node("Relu", "h", "h_out"), node("Identity", "h", "seen")],
        "body",
        [value("i", INT64, ()), value("on", TensorProto.BOOL, ()), value("h")],
        [value("on_out", TensorProto.BOOL, ()), value("h_out"), value("seen")],
    )
    inputs = (value("x"), value("turns", INT64, ()))
    return model(node("Loop", "turns yes x", "last y", body=body), inputs=inputs, yes=np.array(1, bool))


def inner(operator: NodeProto) -> ModelProto:
    """The operator inside of a branch."""
    then = helper.make_graph([operator], "then", [], [value("t")])
    other = helper.make_graph([node("Relu", "x", "o")], "else", [], [value("o")])
    return model(node("If", "which", then_branch=then, else_branch=other), which=np.array(1, bool))


GRU = {"W": np.ones((2, 12, 5), np.float32), "R": np.ones((2, 12, 4), np.float32)}
SERIES = (value("x", shape=(7, 2, 5)),)
BROKEN: dict[str, tuple[ModelProto, str, str]] = {
    # the graph
    "opset too new": (model(node("Relu", "x"), opset=21), "opset 21; TensorRT 10 reads 9 to 20", "opset 20"),
    "opset too old": (model(node("Relu", "x"), opset=8), "opset 8", "opset 20"),
    "other domain": (
        model(helper.make_node("Gelu", ["x"], ["y"], "bent", domain="com.microsoft")),
        "Node bent: TensorRT has no com.microsoft::Gelu",
        "standard ONNX operators",
    ),
    "integer product": (
        model(
            node("MatMulInteger", "x w"), inputs=(value("x", TensorProto.INT8, ("n", 4)),), w=np.ones((4, 4), np.int8)
        ),
        "no MatMulInteger",
        "quantize.static",
    ),
    "quantized while running": (
        model(node("DynamicQuantizeLinear", "x", "y s z")),
        "no DynamicQuantizeLinear",
        "quantize",
    ),
    "QLinearConv": (model(node("QLinearConv", "x s z w s z s z")), "no QLinearConv", "quantize.static"),
    "unknown operator": (model(node("Det", "x")), "has no such operator", "Replace the operator"),
    "inside a branch": (inner(node("Det", "x", "t")), "the_Det", "Replace the operator"),
    "younger operator": (model(node("Gelu", "x")), "since 10.6", "trt11"),
    "type of an operator": (
        model(
            node("GridSample", "x grid"), inputs=(value("x", TensorProto.BFLOAT16), value("grid", shape=("n", 8, 8, 2)))
        ),
        "GridSample.*takes no bfloat16",
        "Replace the operator",
    ),
    "float64": (model(node("Relu", "x"), inputs=(value("x", TensorProto.DOUBLE),)), "x is float64", "float32"),
    "int16": (model(node("Cast", "x", to=TensorProto.INT16), output=(TensorProto.INT16, None)), "int16", "int32"),
    "bytes inside": (
        model(node("Cast", "x", "b", to=TensorProto.UINT8), node("Cast", "b", to=FLOAT)),
        "uint8 inside",
        "Cast to int32",
    ),
    # quantization
    "negative scale": (quantized(replaced("scale", np.float32(-1))), "positive constant", "quantize.static"),
    "zero scale of a channel": (
        quantized(replaced("w_scale", np.float32([1, 0, 1, 1]))),
        "positive",
        "quantize.static",
    ),
    "computed scale": (quantized(computed_scale), "positive constant", "quantize.static"),
    "zero-point": (quantized(replaced("zero", np.int8(3))), "zero-points must be 0", "quantize.static"),
    "uint8": (quantized(uint8_activations), "int8, never uint8", "quantize.static"),
    "uint8 by default": (quantized(no_zero_point), "int8, never uint8", "quantize.static"),
    "int32 bias": (quantized(quantized_bias), "int8, never int32", "quantize.static"),
    "codes in an operator": (quantized(clipped_codes), "Clip.*takes no int8", "skip list"),
    "channels of an activation": (quantized(replaced("scale", np.ones(3, np.float32))), "only weights", "skip list"),
    "channels of inputs": (quantized(wrong_axis), "for the outputs of Node the_Conv", "quantize.static"),
    "blocks of 32": (int4(32), "blocks of 64 or 128.*not 32", "`block`"),
    "int4 weight of a convolution": (int4(operator="Conv"), "matrix products only", "int8"),
    # forms of operators
    "dilated pool": (
        model(node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])),
        "without dilations",
        "Replace",
    ),
    "pool over one axis": (
        model(node("MaxPool", "x", kernel_shape=[2]), inputs=(value("x", shape=("n", 3, 8)),)),
        "2 or 3 axes, not 1",
        "Unsqueeze",
    ),
    "indices of maxima": (model(node("MaxPool", "x", "y where", kernel_shape=[2, 2])), "first output only", "Replace"),
    "statistics of a norm": (
        model(node("LayerNormalization", "x g", "y mean"), g=np.ones(8, np.float32)),
        "first output only",
        "Replace",
    ),
    "norm in training": (
        model(node("BatchNormalization", "x g g g g", "y a b", training_mode=1), g=np.ones(3, np.float32)),
        "training_mode 0, not 1",
        "Replace",
    ),
    "LSTM by batch": (
        model(
            node("LSTM", "x w r", "h y", hidden_size=4, layout=1),
            inputs=SERIES,
            w=np.ones((1, 16, 5), np.float32),
            r=np.ones((1, 16, 4), np.float32),
        ),
        "layout 0, not 1",
        "Replace",
    ),
    "GRU of two kinds": (
        model(
            node(
                "GRU",
                "x W R",
                "h y",
                hidden_size=4,
                direction="bidirectional",
                activations=["Sigmoid", "Tanh", "Sigmoid", "Relu"],
            ),
            inputs=SERIES,
            **GRU,
        ),
        "same activations",
        "Replace",
    ),
    "cubic resize": (
        model(node("Resize", "x none s", mode="cubic"), s=np.ones(4, np.float32), none=np.ones(0, np.float32)),
        "mode nearest or linear, not cubic",
        "Replace",
    ),
    "antialias": (
        model(
            node("Resize", "x none s", mode="linear", antialias=1),
            s=np.ones(4, np.float32),
            none=np.ones(0, np.float32),
        ),
        "antialias 0, not 1",
        "Replace",
    ),
    "scatter and add": (
        model(node("ScatterND", "x i u", reduction="add"), i=np.zeros((1, 4), np.int64), u=np.ones(1, np.float32)),
        "reduction none",
        "Replace",
    ),
    "unsorted": (model(node("TopK", "x k", "y i", sorted=0), k=np.array([2])), "sorted 1, not 0", "Replace"),
    "many of TopK": (
        model(node("TopK", "x k", "y i"), inputs=(value("x", shape=("n", 5000)),), k=np.array([4000])),
        "fewer than 3840",
        "Replace",
    ),
    "norm of order 3": (model(node("LpPool", "x", kernel_shape=[2, 2], p=3)), "p 1 or 2, not 3", "Replace"),
    "axes from data": (
        model(node("ReduceSum", "x axes"), inputs=(value("x"), value("axes", INT64, (1,)))),
        "axes as a constant",
        "Replace",
    ),
    "dropout in training": (
        model(node("Dropout", "x r t"), r=np.float32(0.5), t=np.array(1, bool)),
        "training mode",
        "model.eval()",
    ),
    "eye of any size": (model(node("EyeLike", "x"), inputs=(value("x", shape=("n", 4)),)), "fixed size", "Replace"),
    "grid of volumes": (
        model(
            node("GridSample", "x g"), inputs=(value("x", shape=("n", 3, 8, 8, 8)), value("g", shape=("n", 8, 8, 8, 3)))
        ),
        "4 axes, not 5",
        "Replace",
    ),
    "collected by a loop": (loop(), "constant number of turns", "Replace"),
    "constant text": (
        model(node("Constant", "", "t", value_string="hello"), node("Relu", "x")),
        "numbers only",
        "Replace",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_a_rule_is_refused_with_a_remedy(name: str) -> None:
    graph, sentence, remedy = BROKEN[name]

    with pytest.raises(RuleViolated, match=sentence) as refused:
        require_rules(graph, TRT10)
    assert any(remedy in violation.remedy for violation in violations(graph, TRT10))
    assert refused.value.remedy in {violation.remedy for violation in violations(graph, TRT10)}


SOUND: dict[str, ModelProto] = {
    "float": model(node("Relu", "x")),
    "quantized": quantized(),
    "int4": int4(128),
    "pooled": model(node("AveragePool", "x", kernel_shape=[2, 2], dilations=[1, 1])),
    "axes from a computation on constants": model(
        node("Constant", "", "a", value_ints=[2]), node("Identity", "a", "axes"), node("ReduceSum", "x axes")
    ),
    "nearest": model(node("Resize", "x none s"), s=np.ones(4, np.float32), none=np.ones(0, np.float32)),
    "in a branch": inner(node("Sigmoid", "x", "t")),
    "bytes at the border": model(node("Cast", "x", to=FLOAT), inputs=(value("x", TensorProto.UINT8),)),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_breaks_no_rule_passes(name: str) -> None:
    assert violations(SOUND[name], TRT10) == []


def test_every_rule_is_broken_by_some_graph() -> None:
    """No rule is without its test: leaving it out lets some broken graph pass, or say less."""
    details = {violation.detail for graph, _, _ in BROKEN.values() for violation in violations(graph, TRT10)}
    details |= {violation.detail for violation in violations(attention(), TRT11)}
    for rule in NODE_RULES:
        rest = set()
        for graph in (*(graph for graph, _, _ in BROKEN.values()), attention()):
            release = TRT11 if graph.opset_import[0].version > 21 else TRT10
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(
                    "worker.engine.targets.tensorrt.rules.NODE_RULES",
                    tuple(one for one in NODE_RULES if one is not rule),
                )
                rest |= {violation.detail for violation in violations(graph, release)}
        assert details - rest, rule


def attention() -> ModelProto:
    return model(node("Attention", "x x x", softcap=1.0), opset=23)


def test_each_release_reads_what_it_knows() -> None:
    assert violations(model(node("Gelu", "x")), TRT11) == []
    assert violations(model(node("Relu", "x"), opset=25), TRT11) == []
    assert any("softcap" in violation.detail for violation in violations(attention(), TRT11))
    assert any("since 10.14" in violation.detail for violation in violations(attention(), TRT10))


def test_many_violations_are_told_in_one_sentence_each_and_counted() -> None:
    graph = model(
        *(helper.make_node("Det", ["x"], [f"y{index}"], f"n{index}") for index in range(8)), node("Relu", "x")
    )

    with pytest.raises(RuleViolated, match=r"Node n0 .*Node n4 .*And 3 more\.$"):
        require_rules(graph, TRT10)


def test_the_table_has_a_source_and_no_operator_twice() -> None:
    known = table()
    assert known.version in known.source
    assert {"Conv", "MatMul", "QuantizeLinear", "LayerNormalization"} <= known.operators.keys()
    assert "QLinearConv" not in known.operators
    assert known.operators["Gelu"].since == (10, 6)
