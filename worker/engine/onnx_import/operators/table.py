"""Every operator with its form in PyTorch. Keys are "Conv", or with a domain in front "com.microsoft.FusedConv"."""

from worker.engine.onnx_import.call import Converter
from worker.engine.onnx_import.operators import (
    attention,
    classic,
    contrib,
    control_flow,
    convolution,
    elementwise,
    indexing,
    losses,
    normalization,
    pooling,
    products,
    quantization,
    random,
    recurrent,
    reductions,
    resize,
    shapes,
    signals,
)

OPERATORS: dict[str, Converter] = {
    **attention.CONVERTERS,
    **classic.CONVERTERS,
    **contrib.CONVERTERS,
    **control_flow.CONVERTERS,
    **convolution.CONVERTERS,
    **elementwise.CONVERTERS,
    **indexing.CONVERTERS,
    **losses.CONVERTERS,
    **normalization.CONVERTERS,
    **pooling.CONVERTERS,
    **products.CONVERTERS,
    **quantization.CONVERTERS,
    **random.CONVERTERS,
    **recurrent.CONVERTERS,
    **reductions.CONVERTERS,
    **resize.CONVERTERS,
    **shapes.CONVERTERS,
    **signals.CONVERTERS,
}
"""A converter asks its call for the version where an operator has changed."""
FOLLOWERS = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that only move elements: of quantized values they move the numbers that the codes stand for."""
