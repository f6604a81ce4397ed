"""Rules about QuantizeLinear and DequantizeLinear: explicit quantization is signed, symmetric and constant."""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, TensorProto

from worker.engine.targets.tensorrt.rules.graph import SKIP
from worker.engine.targets.tensorrt.rules.view import QDQ, View, Violation, attributes, called

NARROW = frozenset({TensorProto.INT4, TensorProto.UINT4})
BLOCKS = (64, 128)
OURS = "Let quantize.static quantize the float model, or deliver for another target."


def positive_scale(view: View, node: NodeProto) -> Iterator[Violation]:
    """The scale is a build-time constant and above zero (quantized types; operators reference, Quantize)."""
    if node.op_type not in QDQ:
        return
    scale = view.array(node.input[1])
    if scale is None or not (scale.astype(np.float64) > 0).all():
        yield Violation(f"{called(node)}: the scale must be a positive constant.", OURS)


def zero_zero_points(view: View, node: NodeProto) -> Iterator[Violation]:
    """Quantization is symmetric (operators.md, QuantizeLinear and DequantizeLinear: zero-point must be 0)."""
    if node.op_type not in QDQ or len(node.input) < 3 or not node.input[2]:
        return
    zero = view.array(node.input[2])
    if zero is None or zero.astype(np.int32).any():
        yield Violation(f"{called(node)}: zero-points must be 0.", OURS)


def signed_codes(view: View, node: NodeProto) -> Iterator[Violation]:
    """Codes are int8 (or int4, for weights), never uint8, nor the int32 of biases (quantized types)."""
    if node.op_type not in QDQ:
        return
    zero = view.constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is not None:
        kind: int | None = zero.data_type
    elif node.op_type == "QuantizeLinear":
        given = attributes(node).get("output_dtype", 0)
        kind = given or TensorProto.UINT8  # what ONNX says without either
    else:
        kind = view.types.get(node.input[0])
    if kind not in (TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1, None):
        what = str(TensorProto.DataType.Name(kind)).lower()
        yield Violation(f"{called(node)}: the zero-point must be a constant int8, never {what}.", OURS)


def channels_only_of_weights(view: View, node: NodeProto) -> Iterator[Violation]:
    """Activations have one scale; weights may have one for each channel (quantized types, granularities)."""
    if node.op_type not in QDQ:
        return
    scale = view.array(node.input[1])
    if scale is not None and scale.size > 1 and not (view.is_weight(node.output[0]) or view.is_weight(node.input[0])):
        yield Violation(f"{called(node)}: only weights may have a scale for each channel.", SKIP)


def channels_are_outputs(view: View, node: NodeProto) -> Iterator[Violation]:
    """A weight's scales are for its output channels, which are the first axis of a Conv's (quantized types)."""
    reader = view.weighted(node.output[0]) if node.op_type == "DequantizeLinear" else None
    scale = view.array(node.input[1]) if reader is not None else None
    if reader is None or scale is None or scale.ndim != 1 or scale.size < 2:
        return
    rank = len(view.shapes.get(node.input[0], ()))
    axis = attributes(node).get("axis", 1)
    if rank and axis % rank != _output_axis(reader, rank):
        yield Violation(f"{called(node)}: the scales must be for the outputs of {called(reader)}.", OURS)


def _output_axis(reader: NodeProto, rank: int) -> int:
    if reader.op_type == "Gemm":
        return 0 if attributes(reader).get("transB", 0) else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(reader.op_type, rank - 1)


def narrow_weights_only(view: View, node: NodeProto) -> Iterator[Violation]:
    """INT4 is for weights of matrix products alone: no activation, no convolution (quantized types)."""
    if node.op_type not in QDQ or not _is_narrow(view, node):
        return
    reader = view.weighted(node.output[0])
    if node.op_type == "QuantizeLinear" or reader is None or reader.op_type not in ("MatMul", "Gemm"):
        yield Violation(
            f"{called(node)}: 4-bit integers are for weights of matrix products only.",
            "Use int8 for the other layers (skip the node), or deliver for another target.",
        )


def narrow_blocks(view: View, node: NodeProto) -> Iterator[Violation]:
    """INT4 has a scale for each block of 64 or 128 along one of the last two axes (quantized types, schemes)."""
    if node.op_type != "DequantizeLinear" or not _is_narrow(view, node):
        return
    given = attributes(node)
    block, axis = given.get("block_size", 0), given.get("axis", 1)
    shape = view.shapes.get(node.input[0], ())
    far = bool(shape) and axis % len(shape) < len(shape) - 2
    if block not in BLOCKS or far:
        yield Violation(
            f"{called(node)}: 4-bit weights need blocks of 64 or 128 along one of the last two axes, not {block}.",
            "Set `block` of quantize.weights to 64 or 128.",
        )


def _is_narrow(view: View, node: NodeProto) -> bool:
    zero = view.constants.get(node.input[2]) if len(node.input) > 2 else None
    return (zero is not None and zero.data_type in NARROW) or view.types.get(node.input[0]) in NARROW


NODE_RULES = (
    positive_scale,
    signed_codes,
    zero_zero_points,
    channels_only_of_weights,
    channels_are_outputs,
    narrow_weights_only,
    narrow_blocks,
)
