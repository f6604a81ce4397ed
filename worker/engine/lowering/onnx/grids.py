"""Codes fixed by training, as ONNX Runtime's quantizer and the integer kernels take them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import GraphProto, helper, numpy_helper
from onnxruntime.quantization import QuantType

from worker.engine.lowering.onnx.profiles import Profile
from worker.engine.lowering.onnx.quantized_graph import QuantizedGraph
from worker.engine.plan.plan import Grid

SEVEN_BITS = 64
"""The largest weight whose product with two unsigned bytes does not saturate 16 bits, by magnitude."""
WORTH_PACKING = 2048
"""Bytes that packing must save on a weight: the nodes that unpack it take about 1,000."""
DTYPES = {QuantType.QInt8: np.int8, QuantType.QUInt8: np.uint8}


def overrides(grids: Mapping[str, Grid], graph: GraphProto, profile: Profile) -> dict[str, list[dict[str, Any]]]:
    """The quantizer's `TensorQuantOverrides`: scales and zero-points kept to the bit, by tensor of `graph`.

    Left out is what the profile cannot express; the quantizer then works from the float weights or the range.
    """
    constants = {tensor.name for tensor in graph.initializer}
    values = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
    kept: dict[str, list[dict[str, Any]]] = {}
    for name, grid in grids.items():
        if name in constants and not (profile.reduce_range and max(-grid.low, grid.high) > SEVEN_BITS):
            kept[name] = _weight(grid, profile)
        elif name in values and (zero_point := _zero_point(grid, profile)) is not None:
            kept[name] = [
                {
                    "quant_type": profile.activations,
                    "scale": np.array(grid.scales[0], np.float32),
                    "zero_point": np.array(zero_point, DTYPES[profile.activations]),
                }
            ]
    return kept


def _weight(grid: Grid, profile: Profile) -> list[dict[str, Any]]:
    zero = np.array(0, DTYPES[profile.weights])
    axis = {} if grid.axis is None else {"axis": grid.axis}
    return [
        {"quant_type": profile.weights, "scale": np.array(scale, np.float32), "zero_point": zero, **axis}
        for scale in grid.scales
    ]


def _zero_point(grid: Grid, profile: Profile) -> int | None:
    """Where the container of the profile has the grid's zero; None if the codes do not all fit around it."""
    if profile.symmetric_activations:
        return 0 if grid.low - grid.zero_point >= -128 and grid.high - grid.zero_point <= 127 else None
    return grid.zero_point - (128 if profile.activations == QuantType.QInt8 else 0)


def limit_codes(quantized: QuantizedGraph, grids: Mapping[str, Grid], profile: Profile) -> None:
    """Cut activations to fewer than 256 codes, where the container would let more of them pass.

    Between QuantizeLinear and DequantizeLinear, on the integer codes, so that the kernels on either side stay
    integer. A profile that wants the two as a pair gets the cut in front of them, in floating point.
    """
    graph = quantized.model.graph
    maker = {name: node for node in graph.node for name in node.output}
    for activation in quantized.activations:
        grid = grids.get(activation.tensor)
        if grid is None or grid.high - grid.low >= 255 or not activation.has_own_scale:
            continue  # what has the scale of another tensor only moves its codes
        node = maker[activation.codes]
        if profile.symmetric_activations:
            cut = grid.range()
            bounds = (np.array(cut.low, np.float32), np.array(cut.high, np.float32))
            node.input[0] = _clip(graph, node.input[0], f"{node.output[0]}_limited", bounds)
        elif (shift := _zero_point(grid, profile)) is not None:
            shift -= grid.zero_point
            codes = node.output[0]
            node.output[0] = f"{codes}_unlimited"
            dtype = DTYPES[profile.activations]
            _clip(graph, node.output[0], codes, (np.array(grid.low + shift, dtype), np.array(grid.high + shift, dtype)))


def _clip(graph: GraphProto, before: str, after: str, bounds: tuple[np.ndarray, np.ndarray]) -> str:
    names = [f"{after}_{end}" for end in ("low", "high")]
    graph.initializer.extend(numpy_helper.from_array(bound, name) for bound, name in zip(bounds, names, strict=True))
    graph.node.append(helper.make_node("Clip", [before, *names], [after], f"{after}_Clip"))
    return after


def limit_weights(quantized: QuantizedGraph, grids: Mapping[str, Grid]) -> None:
    """Cut quantized weights to the codes of their grid: the quantizer cuts at 8 bits, whatever the scale is for."""
    narrow = {
        quantized.constants[name].codes: grid
        for name, grid in grids.items()
        if name in quantized.constants and grid.high - grid.low < 255
    }
    for tensor in quantized.model.graph.initializer:
        if (grid := narrow.get(tensor.name)) is not None:
            codes = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.clip(codes, grid.low, grid.high), tensor.name))


def narrow_weights(quantized: QuantizedGraph, grids: Mapping[str, Grid], profile: Profile) -> dict[str, int]:
    """Bits of the quantized weights that are worth packing, by initializer.

    A profile with symmetric activations is for TensorRT, which has neither the operators nor a use for them: its
    builder stores weights its own way.
    """
    if profile.symmetric_activations:
        return {}
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in quantized.model.graph.initializer}
    bits = {
        quantized.constants[name].codes: (grid.high - grid.low).bit_length()
        for name, grid in grids.items()
        if name in quantized.constants
    }
    return {
        name: width
        for name, width in bits.items()
        if width < 8 and sizes.get(name, 0) * (8 - width) / 8 >= WORTH_PACKING
    }
