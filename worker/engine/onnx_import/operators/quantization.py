"""Quantized operators, computed in floats on the grid of the codes: what quantization-aware training calls fake.

A step back from codes to numbers costs nothing, since the numbers are what is kept. Gradients pass the rounding as if
it were not there, and vanish beyond the range of the codes (the straight-through estimator).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from worker.engine.onnx_import.call import Call, Converter
from worker.engine.onnx_import.graph import Node
from worker.engine.onnx_import.operators.convolution import convolved
from worker.engine.onnx_import.operators.pooling import average_pool
from worker.engine.onnx_import.values import DTYPES, UNIT, Quantized, Value, array_of

FOUR_BITS = {TensorProto.INT4: (torch.int8, -8, 7), TensorProto.UINT4: (torch.uint8, 0, 15)}
TWO_BITS = {TensorProto.INT2: (torch.int8, -2, 1), TensorProto.UINT2: (torch.uint8, 0, 3)}
BY_NAME = {
    "int4": FOUR_BITS[TensorProto.INT4],
    "uint4": FOUR_BITS[TensorProto.UINT4],
    "int2": TWO_BITS[TensorProto.INT2],
    "uint2": TWO_BITS[TensorProto.UINT2],
}
Grid = tuple[torch.dtype, Any, Any]
"""Type of the codes, the lowest and the highest of them."""


def quantize_linear(call: Call) -> Quantized:
    """`round(x / scale) + zero_point`, cut to the range of the type."""
    value = call.tensor(0)
    grid = _grid(call, 2)
    scale, zero = parameter(call, 1, value), parameter(call, 2, value)
    return quantized(value, scale, zero, grid)


def _grid(call: Call, place: int) -> Grid:
    """The codes of a zero point, or of `output_dtype`."""
    given = call.value(place)
    if isinstance(given, np.ndarray) and given.dtype.name in BY_NAME:
        return BY_NAME[given.dtype.name]
    asked = call.get("output_dtype", 0)
    if asked in FOUR_BITS or asked in TWO_BITS:
        return {**FOUR_BITS, **TWO_BITS}[asked]
    dtype = call.tensor(place).dtype if call.has(place) else DTYPES.get(asked, torch.uint8) if asked else torch.uint8
    return of_type(dtype)


def of_type(dtype: torch.dtype) -> Grid:
    """All codes of a type."""
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    return dtype, limits.min, limits.max


def parameter(call: Call, place: int, value: Tensor, axis: int | None = None) -> Any:
    """A scale or zero point as a number, or as a tensor that broadcasts with `value`; 0 where it is left out."""
    if not call.has(place):
        return 0
    given = call.value(place)
    if isinstance(given, np.ndarray) and given.size == 1:
        return float(given.reshape(-1)[0])
    tensor = call.tensor(place).to(value.dtype if value.is_floating_point() else torch.float32)
    axis = call.get("axis", 1) if axis is None else axis
    if tensor.ndim == 0 or tensor.numel() == 1:
        return tensor.reshape(())
    axis = axis % value.ndim
    if tensor.ndim == 1 and not call.get("block_size"):
        return tensor.reshape([-1 if place == axis else 1 for place in range(value.ndim)])
    block = call.get("block_size") or -(-value.shape[axis] // tensor.shape[axis])
    return tensor.repeat_interleave(block, axis).narrow(axis, 0, value.shape[axis])


def quantized(value: Tensor, scale: Any, zero: Any, grid: Grid) -> Quantized:
    """`value` on the grid of these codes."""
    dtype, low, high = grid
    if dtype.is_floating_point:
        coded = torch.clamp(value / scale, low, high).to(dtype)
        rounded = coded.to(value.dtype) * scale
        return Quantized(value + (rounded - value).detach(), scale, zero, dtype)
    wide = value if value.is_floating_point() else value.to(torch.float32)
    steps = torch.clamp(torch.round(wide / scale) + zero, low, high) - zero
    if not isinstance(scale, Tensor) and not isinstance(zero, Tensor):
        within = torch.clamp(wide, (low - zero) * scale, (high - zero) * scale)
    else:
        within = torch.minimum(torch.maximum(wide, (low - zero) * _as(scale)), (high - zero) * _as(scale))
    return Quantized(within + (steps * scale - within).detach(), scale, zero, dtype)


def _as(scale: Any) -> Tensor:
    return scale if isinstance(scale, Tensor) else torch.tensor(scale)


def dequantize_linear(call: Call) -> Tensor:
    """`(code - zero_point) * scale`."""
    given = call.value(0)
    if isinstance(given, Quantized) and _same_grid(call, given):
        return given.real
    codes = call.tensor(0)
    scale_type = call.tensor(1).dtype
    numbers = codes.to(scale_type)
    scale, zero = parameter(call, 1, numbers), parameter(call, 2, numbers)
    return ((numbers - zero) * scale).to(call.dtype("output_dtype", scale_type))


def _same_grid(call: Call, given: Quantized) -> bool:
    """Whether the scale and zero point are those that the codes were made with."""
    scale, zero = parameter(call, 1, given.real), parameter(call, 2, given.real)
    return _equal(scale, given.scale) and _equal(zero, given.zero_point)


def _equal(first: Any, second: Any) -> bool:
    """Of numbers; a tensor per channel is compared by what it is a view of."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first is second or getattr(first, "_base", first) is getattr(second, "_base", second)
    return not isinstance(first, Tensor) and not isinstance(second, Tensor) and first == second


def dynamic_quantize(call: Call) -> tuple[Quantized, Tensor, Tensor]:
    """Unsigned codes for the range of the very values, zero included."""
    value = call.tensor(0)
    low, high = torch.clamp(value.amin(), max=0), torch.clamp(value.amax(), min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.clamp(torch.round(-low / scale), 0, 255)
    return quantized(value, scale, zero, (torch.uint8, 0, 255)), scale, zero.to(torch.uint8)


def real(call: Call, place: int, scale: int, zero: int, axis: int = 0) -> Tensor:
    """What the codes of an input stand for; where to find its scale and zero point."""
    given = call.value(place)
    if isinstance(given, Quantized):
        return given.real
    numbers = call.tensor(place).to(torch.float32)
    return (numbers - parameter(call, zero, numbers, axis)) * parameter(call, scale, numbers, axis)


def steps(call: Call, place: int, zero: int, axis: int) -> Tensor:
    """The codes of an input less their zero point, as floats."""
    given = call.value(place)
    if isinstance(given, Quantized):
        return given.steps
    numbers = call.tensor(place).to(torch.float32)
    return numbers - parameter(call, zero, numbers, axis)


def requantized(call: Call, value: Tensor, scale: int, zero: int) -> Quantized:
    """A result in the codes of these inputs."""
    dtype = call.tensor(zero).dtype if call.has(zero) else torch.uint8
    return quantized(value, parameter(call, scale, value), parameter(call, zero, value), of_type(dtype))


def whole(value: Tensor) -> Quantized:
    """32-bit integers that are kept as floats, so that gradients pass."""
    return Quantized(value, UNIT, 0, torch.int32)


def qlinear_conv(call: Call) -> Quantized:
    """Codes in, codes out; the bias is in units of both scales."""
    image, weight = real(call, 0, 1, 2, axis=1), real(call, 3, 4, 5)
    bias = None
    if call.has(8):
        unit = parameter(call, 1, image) * parameter(call, 4, call.tensor(8), axis=0)
        bias = call.tensor(8).to(torch.float32) * unit
    return requantized(call, convolved(call, image, weight, bias), 6, 7)


def qlinear_matmul(call: Call) -> Quantized:
    """Scales may be one number, or one for each row of the first and each column of the second factor."""
    first, second = real(call, 0, 1, 2, axis=-2), real(call, 3, 4, 5, axis=-1)
    return requantized(call, torch.matmul(first, second), 6, 7)


def conv_integer(call: Call) -> Quantized:
    """Whole numbers, not scaled."""
    return whole(convolved(call, steps(call, 0, 2, 1), steps(call, 1, 3, 0), None))


def matmul_integer(call: Call) -> Quantized:
    """Whole numbers, not scaled."""
    return whole(torch.matmul(steps(call, 0, 2, -2), steps(call, 1, 3, -1)))


def qlinear_binary(function: Callable[[Tensor, Tensor], Tensor]) -> Converter:
    """A, its scale and zero point; B, likewise; those of the result."""
    return lambda call: requantized(call, function(real(call, 0, 1, 2), real(call, 3, 4, 5)), 6, 7)


def qlinear_unary(function: Callable[[Call, Tensor], Tensor]) -> Converter:
    """X, its scale and zero point; those of the result."""
    return lambda call: requantized(call, function(call, real(call, 0, 1, 2)), 3, 4)


def through(converter: Converter) -> Callable[[Call, Tensor], Tensor]:
    """An operator on floats, applied to what the codes stand for."""

    def apply(call: Call, value: Tensor) -> Tensor:
        result: Tensor = converter(Call(call.node, [value], {}))
        return result

    return apply


def qlinear_concat(call: Call) -> Quantized:
    """The result's scale and zero point come first, then every tensor with its own."""
    parts = [real(call, place, place + 1, place + 2) for place in range(2, len(call), 3)]
    return requantized(call, torch.cat(parts, call["axis"]), 0, 1)


def qlinear_softmax(call: Call) -> Quantized:
    """Over the last axis or all from `axis` on, as its `opset` has it."""
    value, axis = real(call, 0, 1, 2), call.get("axis", -1)
    if call.get("opset", 13) >= 13:
        return requantized(call, torch.softmax(value, axis), 3, 4)
    axis = axis % value.ndim
    return requantized(call, torch.softmax(value.flatten(axis), -1).reshape(value.shape), 3, 4)


def qgemm(call: Call) -> Value:
    """`alpha A' B' + C`; a float where no scale of the result is given."""
    first, second = real(call, 0, 1, 2), real(call, 3, 4, 5, axis=0 if call.get("transB") else 1)
    first = first.t() if call.get("transA") else first
    second = second.t() if call.get("transB") else second
    product = torch.matmul(first, second) * call.get("alpha", 1.0)
    if call.has(6):
        numbers = call.tensor(6).to(torch.float32)
        product = product + numbers * parameter(call, 1, numbers) * parameter(call, 4, numbers, axis=-1)
    return requantized(call, product, 7, 8) if call.has(7) else product


def matmul_integer_to_float(call: Call) -> Tensor:
    """A, B, their scales, their zero points, a bias."""
    first, second = steps(call, 0, 4, -1), steps(call, 1, 5, -1)
    product = torch.matmul(first, second) * parameter(call, 2, first, axis=-1) * parameter(call, 3, second, axis=-1)
    return product + call.tensor(6) if call.has(6) else product


def dynamic_quantize_matmul(call: Call) -> Tensor:
    """A is quantized by its own range; B comes with scale and zero point, then a bias."""
    low, high = torch.clamp(call.tensor(0).amin(), max=0), torch.clamp(call.tensor(0).amax(), min=0)
    scale = (high - low) / 255
    zero = torch.clamp(torch.round(-low / scale), 0, 255)
    first = quantized(call.tensor(0), scale, zero, (torch.uint8, 0, 255)).real
    product = torch.matmul(first, real(call, 1, 2, 3, axis=-1))
    return product + call.tensor(4) if call.has(4) else product


def stored_in_bits(call: Call) -> Tensor:
    """A product with a weight of a few bits, in blocks along its inputs: A, codes, scales, zero points, order, bias."""
    return torch.matmul(call.tensor(0), few_bits(call).t()) + (call.tensor(5) if call.has(5) else 0)


def few_bits(call: Call) -> Tensor:
    """The weight of `MatMulNBits`, float `[outputs, inputs]`."""
    if call.has(4):
        raise call.refusal("a weight in groups (g_idx)")
    inputs, outputs, bits, block = call["K"], call["N"], call.get("bits", 4), call["block_size"]
    blocks = -(-inputs // block)
    codes = unpacked(call.tensor(1), bits).reshape(outputs, blocks, -1)[..., :block]
    scales = call.tensor(2).reshape(outputs, blocks, 1)
    zero: Any = float(1 << (bits - 1))
    if call.has(3):
        given = call.tensor(3)
        points = given if given.is_floating_point() else unpacked(given.reshape(outputs, -1), bits)[:, :blocks]
        zero = points.reshape(outputs, blocks, 1)
    numbers = (codes.to(scales.dtype) - zero) * scales
    return numbers.reshape(outputs, -1)[:, :inputs]


def unpacked(packed: Tensor, bits: int) -> Tensor:
    """Bytes as the codes in them, the lowest bits first."""
    if bits == 8:
        return packed
    shifts = torch.arange(0, 8, bits, dtype=torch.int32)
    return ((packed.to(torch.int32).unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(-2)


def _average(call: Call, value: Tensor) -> Tensor:
    if call.get("channels_last"):
        raise call.refusal("with channels last")
    return value.mean(list(range(2, value.ndim)), keepdim=True)


def _leaky(call: Call, value: Tensor) -> Tensor:
    return torch.nn.functional.leaky_relu(value, call.get("alpha", 0.01))


def weight_of_bits(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray:
    """The constant weight of such a node: codes, scales, zero points."""
    call = Call(node, [None, *arrays], {})
    return array_of(few_bits(call).contiguous())


CONVERTERS: dict[str, Converter] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize_linear,
    "com.microsoft.DequantizeLinear": dequantize_linear,
    "com.microsoft.DynamicQuantizeMatMul": dynamic_quantize_matmul,
    "com.microsoft.MatMulIntegerToFloat": matmul_integer_to_float,
    "com.microsoft.MatMulNBits": stored_in_bits,
    "com.microsoft.QGemm": qgemm,
    "com.microsoft.QLinearAdd": qlinear_binary(torch.add),
    "com.microsoft.QLinearAveragePool": qlinear_unary(through(average_pool)),
    "com.microsoft.QLinearConcat": qlinear_concat,
    "com.microsoft.QLinearConv": qlinear_conv,
    "com.microsoft.QLinearGlobalAveragePool": qlinear_unary(_average),
    "com.microsoft.QLinearLeakyRelu": qlinear_unary(_leaky),
    "com.microsoft.QLinearMul": qlinear_binary(torch.mul),
    "com.microsoft.QLinearSigmoid": qlinear_unary(lambda _, value: torch.sigmoid(value)),
    "com.microsoft.QLinearSoftmax": qlinear_softmax,
    "com.microsoft.QuantizeLinear": quantize_linear,
}
"""By operator."""
