"""ONNX files that read other files, exhaust memory or time, or mean different things to different parsers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.support.hostile.archives import entry, tarred, zipped
from tests.support.hostile.kinds import Hostile, model

FLOAT = TensorProto.FLOAT
MALFORMED = frozenset({"model.malformed"})
EXTERNAL = frozenset({"model.external_data"})
TOO_LARGE = frozenset({"model.too_large"})
TOO_COMPLEX = frozenset({"model.too_complex"})
MEMORY = frozenset({"worker.oom", "worker.killed", "worker.crashed", "model.load_failed"})
"""Which of them depends on who notices first: the runtime's allocator, the watchdog or the kernel."""
UNSUPPORTED = frozenset({"model.unsupported_op"})
TYPE = frozenset({"model.unsupported_type"})


def value(name: str, shape: Sequence[int | str | None] | None = (1,), type_: int = FLOAT) -> Any:
    """An input or output."""
    return helper.make_tensor_value_info(name, type_, shape)


def proto(
    nodes: Iterable[NodeProto],
    *,
    inputs: Any = None,
    outputs: Any = None,
    weights: Iterable[TensorProto] = (),
    opset: int = 20,
    domains: Iterable[str] = (),
    functions: Iterable[FunctionProto] = (),
) -> ModelProto:
    """A model from `x` to `y`."""
    graph = helper.make_graph(
        list(nodes), "g", [value("x")] if inputs is None else inputs, outputs or [value("y")], list(weights)
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)


def node(
    operator: str, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",), **attributes: Any
) -> NodeProto:
    """A node; `domain` is an attribute of `make_node`, too."""
    return helper.make_node(operator, list(inputs), list(outputs), **attributes)


def ints(name: str, *numbers: int) -> TensorProto:
    """An int64 weight."""
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def weight(name: str = "w", dims: Sequence[int] = (4,), raw: bytes = b"\0" * 16, type_: int = FLOAT) -> TensorProto:
    """A weight whose fields need not agree."""
    return TensorProto(name=name, dims=dims, data_type=type_, raw_data=raw)


def external(location: str, *, offset: str = "0", length: str | None = "16") -> TensorProto:
    """Sixteen bytes in another file."""
    tensor = TensorProto(name="w", dims=[4], data_type=FLOAT, data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, "offset": offset, "length": length}.items():
        if text is not None:
            tensor.external_data.add(key=key, value=text)
    return tensor


def referring(*tensors: TensorProto) -> bytes:
    """A model that returns its weight `w`."""
    return proto([node("Identity", ["w"])], inputs=[], outputs=[value("y", [4])], weights=tensors).SerializeToString()


def files() -> Iterator[Hostile]:
    for name, content, codes in (*_external(), *_bundles(), *_sizes(), *_graphs(), *_operators(), *_types()):
        yield model(name, content.SerializeToString() if isinstance(content, ModelProto) else content, codes)
    for name, content, codes in (*_encoding(), *_weights(), *_expensive()):
        yield model(name, content.SerializeToString() if isinstance(content, ModelProto) else content, codes)


Case = tuple[str, ModelProto | bytes, frozenset[str] | set[str]]


def _external() -> Iterator[Case]:
    for title, place in {
        "parent": "../../../../etc/hostname",
        "absolute": "/etc/hostname",
        "middle": "a/../../etc/hostname",
        "missing": "weights.bin",
        "memory": "*/_ORT_MEM_ADDR_/*",
        "empty": "",
        "url": "file:///etc/hostname",
    }.items():
        yield f"onnx_external_{title}", referring(external(place)), EXTERNAL
    constant = node("Constant", [], ["y"], value=external("/etc/hostname"))
    yield "onnx_external_in_constant", proto([constant], inputs=[]), EXTERNAL
    branch = helper.make_graph([node("Constant", [], ["b"], value=external("/etc/hostname"))], "b", [], [value("b")])
    condition = node("If", ["c"], then_branch=branch, else_branch=branch)
    yield "onnx_external_in_branch", proto([condition], inputs=[value("c", [], TensorProto.BOOL)]), EXTERNAL
    body = helper.make_function("f", "F", ["x"], ["y"], [constant], [helper.make_opsetid("", 20)])
    called = proto([node("F", domain="f")], domains=["f"], functions=[body])
    yield "onnx_external_in_function", called, EXTERNAL
    both = external("w.bin")
    both.raw_data = b"\0" * 16
    yield "onnx_external_and_inside", referring(both), MALFORMED


def _bundles() -> Iterator[Case]:
    def bundle(**said: Any) -> bytes:
        return zipped([("m.onnx", referring(external("w.bin", **said))), ("w.bin", b"\0" * 16)])

    yield "bundle_untouched", bundle(), {"ok"}
    yield "bundle_past_the_end", bundle(offset="8"), EXTERNAL
    yield "bundle_short_length", bundle(length="4"), EXTERNAL
    yield "bundle_negative_offset", bundle(offset="-4"), MALFORMED
    yield "bundle_huge_offset", bundle(offset="9" * 18), EXTERNAL
    yield "bundle_leaves", zipped([("m/m.onnx", referring(external("../w.bin"))), ("w.bin", b"\0" * 16)]), EXTERNAL
    yield "bundle_itself", zipped([("m.onnx", referring(external("m.onnx")))]), EXTERNAL
    good = referring(external("w.bin"))
    yield "bundle_two_graphs", zipped([("m.onnx", good), ("n.onnx", good), ("w.bin", b"\0" * 16)]), MALFORMED
    yield "bundle_stray", zipped([("m.onnx", good), ("w.bin", b"\0" * 16), ("run.sh", b"#!")]), MALFORMED
    yield "bundle_tar_missing", tarred([(entry("m.onnx"), good)]), EXTERNAL
    link = tarred([(entry("m.onnx"), good), (entry("w.bin", kind=b"2", link="/etc/hostname"), b"")])
    yield "bundle_tar_link", link, {"archive.unsafe_member"}
    yield "bundle_without_graph", tarred([(entry("w.bin"), b"\0")]), MALFORMED


def _sizes() -> Iterator[Case]:
    shape = [ints("s", 1 << 16, 1 << 15)]
    yield "onnx_bomb_constant_of_shape", proto([node("ConstantOfShape", ["s"])], weights=shape), TOO_LARGE
    yield "onnx_bomb_expand", proto([node("Expand", ["x", "s"])], weights=shape), TOO_LARGE
    yield "onnx_bomb_tile", proto([node("Tile", ["x", "s"])], weights=shape), TOO_LARGE
    yield "onnx_bomb_random", proto([node("RandomNormal", [], shape=[1 << 20, 1 << 20])]), TOO_LARGE
    limits = [
        numpy_helper.from_array(np.array(n, np.int64), name) for name, n in {"a": 0, "b": 1 << 40, "c": 1}.items()
    ]
    yield "onnx_bomb_range", proto([node("Range", ["a", "b", "c"])], weights=limits), TOO_LARGE
    resize = node("Resize", ["x", "", "", "s"])
    yield "onnx_bomb_resize", proto([resize], weights=[ints("s", 1, 1, 1 << 20, 1 << 20)]), TOO_LARGE
    yield "onnx_bomb_pad", proto([node("Pad", ["x", "s"])], weights=[ints("s", 0, 1 << 40)]), TOO_LARGE
    inside = [node("Constant", [], ["s"], value_ints=[1 << 20, 1 << 20]), node("ConstantOfShape", ["s"])]
    yield "onnx_bomb_from_constant", proto(inside), TOO_LARGE
    doubled = [node("Concat", [f"t{i}", f"t{i}"], [f"t{i + 1}"], axis=0) for i in range(40)]
    yield "onnx_bomb_doubling", proto(doubled, inputs=[value("t0", ["n"])], outputs=[value("t40", ["n"])]), MEMORY
    yield "onnx_huge_input", proto([node("Relu")], inputs=[value("x", [1 << 20, 1 << 20])]), TOO_LARGE


def _graphs() -> Iterator[Case]:
    cycle = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"])]
    yield "onnx_cycle", proto(cycle), MALFORMED
    yield "onnx_undefined", proto([node("Relu", ["nowhere"])]), MALFORMED
    yield "onnx_no_output", proto([node("Relu", ["x"], ["z"])]), MALFORMED
    yield "onnx_output_twice", proto([node("Relu"), node("Sigmoid")]), MALFORMED
    yield "onnx_shadows_input", proto([node("Relu", ["x"], ["x"])], outputs=[value("x")]), MALFORMED
    yield "onnx_weight_twice", proto([node("Relu")], weights=[weight(), weight()]), MALFORMED
    branch = helper.make_graph([node("Relu", ["x"], ["x"])], "b", [], [value("x")])
    condition = node("If", ["c"], then_branch=branch, else_branch=branch)
    booleans = [value("x"), value("c", [], TensorProto.BOOL)]
    yield "onnx_branch_shadows", proto([condition], inputs=booleans), MALFORMED
    leak = helper.make_graph([node("Relu", ["x"], ["z"])], "b", [], [value("z")])
    leaks = [node("If", ["c"], ["i"], then_branch=leak, else_branch=leak), node("Relu", ["z"])]
    yield "onnx_branch_leaks", proto(leaks, inputs=booleans), MALFORMED
    yield "onnx_nested", _nested(25), TOO_COMPLEX
    yield "onnx_without_graph", ModelProto(ir_version=10), MALFORMED
    yield "onnx_without_outputs", b"\x08\x0a\x3a\x00\x42\x02\x10\x14", MALFORMED


def _nested(depth: int) -> ModelProto:
    graph = helper.make_graph([node("Relu", ["x"], ["b"])], "g", [], [value("b")])
    for level in range(depth):
        name = f"b{level}"
        inner = node("If", ["c"], [name], then_branch=graph, else_branch=GraphProto(name="e"))
        graph = helper.make_graph([inner], "g", [], [value(name)])
    outer = node("If", ["c"], then_branch=graph, else_branch=GraphProto(name="e"))
    return proto([outer], inputs=[value("x"), value("c", [], TensorProto.BOOL)])


def _operators() -> Iterator[Case]:
    yield "onnx_custom_domain", proto([node("Evil", domain="evil.corp")], domains=["evil.corp"]), UNSUPPORTED
    for operator in ("PythonOp", "EPContext"):
        content = proto([node(operator, domain="com.microsoft")], domains=["com.microsoft"])
        yield f"onnx_{operator.lower()}", content, UNSUPPORTED
    training = proto([node("Relu")])
    training.training_info.add()
    yield "onnx_training", training, UNSUPPORTED
    yield "onnx_old_opset", proto([node("Relu")], opset=6), {"model.outdated_format"}
    yield "onnx_old_pad", proto([node("Pad", pads=[0, 0, 0, 1 << 40])], opset=9), {"model.too_large"}
    yield "onnx_two_opsets", _two_opsets(), MALFORMED
    yield "onnx_no_opset", ModelProto(ir_version=10, graph=proto([node("Relu")]).graph), MALFORMED
    calls = [_function(f"F{i}", [f"F{i + 1}"] * 4) for i in range(20)]
    bomb = proto([node("F0", domain="f")], domains=["f"], functions=[*calls, _function("F20", [])])
    yield "onnx_function_bomb", bomb, TOO_COMPLEX
    circle = [_function("F0", ["F1"]), _function("F1", ["F0"])]
    yield "onnx_function_circle", proto([node("F0", domain="f")], domains=["f"], functions=circle), MALFORMED
    same = [_function("F0", []), _function("F0", [])]
    yield "onnx_function_twice", proto([node("F0", domain="f")], domains=["f"], functions=same), MALFORMED


def _function(name: str, callees: Sequence[str]) -> FunctionProto:
    nodes = [node(callee, ["x"], [f"t{i}"], domain="f") for i, callee in enumerate(callees)] + [node("Relu")]
    return helper.make_function(
        "f", name, ["x"], ["y"], nodes, [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    )


def _types() -> Iterator[Case]:
    strings = value("x", [1], TensorProto.STRING)
    yield "onnx_string_input", proto([node("Identity")], inputs=[strings]), TYPE
    yield "onnx_complex_input", proto([node("Identity")], inputs=[value("x", [1], TensorProto.COMPLEX64)]), TYPE
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, [1])
    yield "onnx_sequence_input", proto([node("SequenceAt", ["x", "i"])], inputs=[sequence, value("i")]), TYPE
    yield "onnx_no_shape", proto([node("Relu")], inputs=[value("x", None)]), TYPE
    sparse = proto([node("Relu")])
    sparse.graph.sparse_initializer.add().dims[:] = [1 << 40]
    yield "onnx_sparse", sparse, UNSUPPORTED
    attribute = proto([node("Relu")])
    attribute.graph.node[0].attribute.add(name="a", type=AttributeProto.SPARSE_TENSOR).sparse_tensor.dims[:] = [1 << 40]
    yield "onnx_sparse_attribute", attribute, UNSUPPORTED


def _weights() -> Iterator[Case]:
    for title, tensor in {
        "overflow": weight(dims=[1 << 33, 1 << 33]),
        "negative": weight(dims=[-1, -4]),
        "short": weight(raw=b"\0" * 4),
        "long": weight(raw=b"\0" * 64),
        "rank": weight(dims=[1] * 80),
        "type": weight(type_=99),
        "untyped": weight(type_=0),
        "typed_short": TensorProto(name="w", dims=[4], data_type=1, float_data=[1.0]),
        "wrong_field": TensorProto(name="w", dims=[1], data_type=FLOAT, int64_data=[1]),
        "two_fields": TensorProto(name="w", dims=[1], data_type=FLOAT, float_data=[1.0], raw_data=b"\0" * 4),
        "nothing": TensorProto(name="w", dims=[1 << 40], data_type=FLOAT),
        "segment": TensorProto(
            name="w", dims=[1], data_type=1, raw_data=b"\0" * 4, segment=TensorProto.Segment(begin=0)
        ),
    }.items():
        yield f"onnx_weight_{title}", referring(tensor), MALFORMED


def _encoding() -> Iterator[Case]:
    good = proto([node("Relu")]).SerializeToString()
    graph = proto([node("Relu")]).graph.SerializeToString()
    yield "onnx_untouched", good, {"ok"}
    yield "onnx_two_graphs", good + b"\x3a" + bytes([len(graph)]) + graph, MALFORMED
    yield "onnx_truncated", good[:-7], MALFORMED
    yield "onnx_garbage", b"\x08\x0a" + bytes(range(256)) * 4, MALFORMED
    yield "onnx_long_varint", b"\x08" + b"\xff" * 12 + b"\x01" + good, MALFORMED
    yield "onnx_group", b"\x08\x0a" + b"\x0b" * 4096, MALFORMED
    yield "onnx_length_lies", b"\x08\x0a\x3a\xff\xff\xff\xff\x0f" + graph, MALFORMED
    yield "onnx_wrong_wire_type", b"\x08\x0a\x38\x01", MALFORMED
    yield "onnx_not_utf8", good.replace(b"Relu", b"\xff\xfe\xfd\xfc"), MALFORMED
    yield "onnx_field_zero", good + b"\x02\x00", MALFORMED


def _expensive() -> Iterator[Case]:
    chain = [node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(60_000)]
    yield "onnx_chain", proto(chain, inputs=[value("t0")], outputs=[value("t60000")]), TOO_COMPLEX
    yield "onnx_many_fields", b"\x08\x0a" * 3_500_000, TOO_COMPLEX | MALFORMED
    many = [node(f"Op{i}", ["x"], [f"t{i}"]) for i in range(3000)] + [node("Relu")]
    yield "onnx_many_operators", proto(many), TOO_COMPLEX
    body = helper.make_graph(
        [node("Identity", ["c"], ["co"]), node("Add", ["v", "v"], ["vo"])],
        "b",
        [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("v", ["n"])],
        [value("co", [], TensorProto.BOOL), value("vo", ["n"])],
    )
    forever = numpy_helper.from_array(np.array((1 << 63) - 1, np.int64), "n")
    always = numpy_helper.from_array(np.array(True), "t")
    rows = {"inputs": [value("x", ["n"])], "outputs": [value("y", ["n"])]}
    loop = proto([node("Loop", ["n", "t", "x"], body=body)], weights=[forever, always], **rows)
    yield "onnx_endless_loop", loop, {"worker.timeout"}
    odd = [helper.make_node("Relu", ["../../x"], ["=1+1"], name="<img src=x onerror=alert(1)>\r\nERROR forged")]
    yield "onnx_odd_names", proto(odd, inputs=[value("../../x")], outputs=[value("=1+1")]), {"ok"}


def _two_opsets() -> ModelProto:
    """The standard operators in two versions."""
    model = proto([node("Relu")], opset=17)
    model.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    return model
