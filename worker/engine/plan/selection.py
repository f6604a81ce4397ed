"""Which nodes become integer, and which of them a skip list keeps in floating point."""

import difflib
import fnmatch
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from app.spec.quantize import Skip
from worker.engine.errors import EngineError
from worker.engine.plan.clamps import CLAMPS, may_saturate
from worker.engine.plan.errors import NothingToQuantize

HAVE_WEIGHTS = frozenset({"Attention", "Conv", "ConvTranspose", "GRU", "Gather", "Gemm", "LSTM", "MatMul", "RNN"})
"""Operators that a body may have weights for."""


class UnknownNode(EngineError):
    """A pattern of a step's skip list matches no node or operator of the model."""

    code = "step.unknown_node"
    remedy = "Use a node name or operator type that occurs in the model; glob patterns such as '/head/*' are allowed."


WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with a weight operand, where nearly all time and size is."""

FOLLOWERS = frozenset(
    {
        "Add",
        "AveragePool",
        "Clip",
        "Concat",
        "Flatten",
        "GlobalAveragePool",
        "LeakyRelu",
        "MaxPool",
        "Relu",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators with integer kernels that only pay between convolutions: they keep the data in 8 bits on its way.

In transformers the same operators carry the residual stream, whose outliers do not survive 8 bits: embeddings of
a MiniLM had a cosine of .76 to the original's with every operator quantized, .99 with matrix products alone.
Sigmoid and Mul have integer kernels too, but slow ones: an efficientnet_b0 ran at 0.6 times the float speed with
them and at 1.0 without, with the same noise.
"""


def is_plain_gemm(node: NodeProto) -> bool:
    """Whether a Gemm is a matrix product and an addition; the quantizers handle no other."""
    given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return given.get("alpha", 1.0) == 1.0 and given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)


def weight_of(node: NodeProto) -> str | None:
    """The name of the operand that would be the weight of a weighted operator."""
    return node.input[1] if node.op_type in WEIGHTED and len(node.input) > 1 else None


def quantizable(graph: GraphProto, skipped: Iterable[str]) -> tuple[str, ...]:
    """Names of the nodes to quantize statically, in graph order.

    These are the weighted operators with a constant float32 weight, and the followers whose data all comes from
    convolutions through other followers, and a clamp directly behind a matrix product.
    """
    skipped = frozenset(skipped)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    from_convolution: set[str] = set()
    from_product: set[str] = set()
    chosen = []
    for node in graph.node:
        if node.name in skipped or node.domain not in ("", "ai.onnx") or _needs_floats(node, constants):
            continue
        if node.op_type in WEIGHTED:
            if not has_plain_weight(node, constants):
                continue
            if node.op_type.startswith("Conv"):
                from_convolution.update(node.output)
            else:
                from_product.update(node.output)
        elif node.op_type in CLAMPS and node.input[0] in from_product:
            pass  # the product's 8-bit codes end where the clamp would cut
        elif node.op_type in FOLLOWERS and _data(node) and from_convolution.issuperset(_data(node)):
            from_convolution.update(node.output)
        else:
            continue
        chosen.append(node.name)
    return tuple(chosen)


def _needs_floats(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether codes or integer kernels would not do what a follower does."""
    if node.op_type in CLAMPS:
        return not may_saturate(node, constants)
    return node.op_type == "AveragePool" and not has_integer_pool(node)


def has_plain_weight(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether the weight of a weighted operator is a float32 constant that has an 8-bit form."""
    weight = constants.get(weight_of(node) or "")
    if weight is None or weight.data_type != TensorProto.FLOAT or not is_plain_gemm(node):
        return False
    # A stack of matrices would want a scale for every column of each, which no kernel takes: one for the columns of
    # all is refused (`QLinearMatMul`), one for everything loses most of the smaller matrices.
    return (len(weight.dims) == 2 or node.op_type != "MatMul") and is_finite(weight)


def is_finite(tensor: TensorProto) -> bool:
    """Whether no value is infinite, as in tables of masks, or no number: such values have no code.

    Of tensors whose data was not loaded nothing is known: True.
    """
    if tensor.data_location == TensorProto.EXTERNAL:
        return True
    return bool(np.isfinite(numpy_helper.to_array(tensor)).all())


def has_integer_pool(node: NodeProto) -> bool:
    """Whether ONNX Runtime's QLinearAveragePool (1.31.1) computes what an AveragePool does.

    It knows no dilations, and divides by the size of the whole kernel where the last window hangs over the padding.
    """
    given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    overhangs = bool(given.get("ceil_mode", 0) and given.get("count_include_pad", 0))
    return not overhangs and all(step == 1 for step in given.get("dilations", ()))


def channel_axis(node: NodeProto, axes: int) -> int | None:
    """The axis of a layer's weight that counts its outputs; None where scales cannot follow it.

    A transposed convolution of groups has its outputs spread over two axes, [inputs, outputs / groups, ...]: a scale
    along the second would be shared by a channel of every group, and its bias has no such scale.
    """
    given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1 if given.get("group", 1) == 1 else None
        case "Gemm":
            return 0 if given.get("transB", 0) else 1
        case _:
            return axes - 1


def _data(node: NodeProto) -> list[str]:
    """The operands that carry data; the others are shapes, bounds, axes."""
    merges = node.op_type in ("Add", "Concat")
    return [name for name in (node.input if merges else node.input[:1]) if name]


OTHER_FLOATS: dict[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.BFLOAT16: "bfloat16",
}


def require_float32_weights(graph: GraphProto) -> None:
    """Raise `NothingToQuantize` if the weights are of another floating-point type.

    `graph` is the uploaded one: preparation puts casts in front of float16 operators.
    """
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    dtypes = {types.get(weight_of(node) or "", 0) for node in graph.node}
    if TensorProto.FLOAT not in dtypes and (
        others := sorted(OTHER_FLOATS[dtype] for dtype in dtypes if dtype in OTHER_FLOATS)
    ):
        raise NothingToQuantize(
            f"The model's weights are {' and '.join(others)}; only float32 is quantized.",
            remedy="Export the model in float32.",
        )


def require_weights_outside_of_branches(graph: GraphProto) -> None:
    """Raise `NothingToQuantize` if operators inside of a branch or loop have float32 weights, which plans leave alone.

    Asked where nothing is left in the graph itself.
    """
    for node in graph.node:
        inner = list(_inner_graphs(node))
        weights = {name for part in (graph, *inner) for name in _matrices(part)}
        readers = [
            call
            for part in inner
            for call in part.node
            if call.op_type in HAVE_WEIGHTS and not weights.isdisjoint(call.input)
        ]
        if readers:
            raise NothingToQuantize(
                f"The weights lie inside of a branch or loop ({node.op_type} {node.name!r}, as torch.cond and scripts "
                f"make them): {readers[0].op_type} {readers[0].name!r} is the first of {len(readers)} such operators, "
                "which stay in float32.",
                remedy="Export the branch that you need; or compute both and choose with torch.where.",
            )


def _inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies of a control-flow node, and those inside of them."""
    for entry in node.attribute:
        for body in [entry.g] if entry.HasField("g") else list(entry.graphs):
            yield body
            for call in body.node:
                yield from _inner_graphs(call)


def _matrices(graph: GraphProto) -> set[str]:
    """Float32 constants of two axes or more, whether initializers or nodes."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for entry in node.attribute if node.op_type == "Constant" else ():
            if entry.name == "value":
                constants[node.output[0]] = entry.t
    return {
        name for name, tensor in constants.items() if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1
    }


def skipped_nodes(skip: Skip, original: GraphProto, prepared: GraphProto) -> frozenset[str]:
    """Names of the prepared graph's nodes that the skip list means.

    Patterns are matched against the names in the uploaded graph and in the prepared one; a node that preparation
    fused into another ("matmul" into "matmul/MatMulAddFusion") takes that one along. Uploaded nodes need no names:
    what preparation made of them is told by the values it computes. Raises `UnknownNode`.
    """
    named = _matching(skip.nodes, sorted({node.name for node in (*original.node, *prepared.node) if node.name}), "node")
    types = sorted({node.op_type for node in (*original.node, *prepared.node)})
    operators = set(_matching(skip.operators, types, "operator"))
    named |= {node.name for node in original.node if node.op_type in operators and node.name}
    present = {node.name for node in prepared.node}
    fused = tuple(f"{name}/" for name in named - present)
    gone = [
        node for node in original.node if node.name not in present and (node.name in named or node.op_type in operators)
    ]
    outputs, sums = {output for node in gone for output in node.output}, _sums(gone, original)
    return frozenset(
        node.name
        for node in prepared.node
        if node.name in named
        or node.op_type in operators
        or (fused and node.name.startswith(fused))
        or not outputs.isdisjoint(node.output)
        or (node.op_type == "Gemm" and not sums.isdisjoint(node.output))
    )


def _sums(products: Iterable[NodeProto], graph: GraphProto) -> set[str]:
    """Where a bias is added to these matrix products: preparation makes a Gemm of the two, which computes the sum."""
    inner = {output for node in products if node.op_type == "MatMul" for output in node.output}
    return {
        output
        for node in graph.node
        if node.op_type == "Add" and not inner.isdisjoint(node.input)
        for output in node.output
    }


def _matching(patterns: Iterable[str], names: list[str], kind: str) -> set[str]:
    matched: set[str] = set()
    for pattern in patterns:
        matches = {pattern} if pattern in names else set(fnmatch.filter(names, pattern))
        if not matches:
            close = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4) or names[:3]
            raise UnknownNode(f"No {kind} matches {pattern!r}; similar: {', '.join(close) or 'none'}.")
        matched |= matches
    return matched
