"""Functions of each element: activations, arithmetic, comparisons, casts."""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter

UNSIGNED = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
"""Types that torch only stores, by one in which it computes the same bits."""
FLOAT8 = {torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz}
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def unary(function: Callable[[Tensor], Tensor]) -> Converter:
    """`function` of the only input."""
    return lambda call: widened(function, call.tensor(0))


def widened(function: Callable[..., Tensor], *tensors: Any) -> Tensor:
    """`function` of tensors of one type, in a type that torch can compute in."""
    dtype = next(tensor.dtype for tensor in tensors if isinstance(tensor, Tensor))
    if dtype not in UNSIGNED:
        return function(*tensors)
    wide = UNSIGNED[dtype]
    return function(*(tensor.to(wide) if isinstance(tensor, Tensor) else tensor for tensor in tensors)).to(dtype)


def in_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The same without an operator where it has that type already: the exporter would keep it."""
    return value if value.dtype == dtype else value.to(dtype)


def binary(function: Callable[[Any, Any], Any]) -> Converter:
    """`function` of two inputs, one of which may be a number."""

    def convert(call: Call) -> Any:
        first, second = aligned(call)
        if not isinstance(first, Tensor) and function in TURNED:  # converters want the tensor first
            return widened(TURNED[function], second, first)
        return widened(function, first, second)

    return convert


def comparison(function: Callable[[Any, Any], Tensor]) -> Converter:
    """`function` of two inputs, true or false."""

    def convert(call: Call) -> Tensor:
        first, second = (
            operand.to(UNSIGNED.get(operand.dtype, operand.dtype)) if isinstance(operand, Tensor) else operand
            for operand in aligned(call)
        )
        if isinstance(first, Tensor):
            return function(first, second)
        return function(torch.full_like(second, first), second)

    return convert


def aligned(call: Call) -> list[Any]:
    """The operands; those of operator sets before 7 say at which axis the second begins."""
    operands = call.operands()
    if call.get("broadcast") and isinstance(operands[1], Tensor) and "axis" in call.node.attributes:
        trailing = call.tensor(0).ndim - call["axis"] - operands[1].ndim
        operands[1] = operands[1].reshape(*operands[1].shape, *[1] * trailing)
    if not any(isinstance(operand, Tensor) for operand in operands):
        operands[0] = call.tensor(0)
    return operands


def folded(function: Callable[[Tensor, Tensor], Tensor]) -> Converter:
    """`function` of all inputs, from the first on."""
    return lambda call: widened(lambda *tensors: reduce(function, tensors), *call.tensors())


def divide(first: Any, second: Any) -> Tensor:
    """Whole numbers are divided towards zero."""
    floating = any(isinstance(x, float) or (isinstance(x, Tensor) and x.is_floating_point()) for x in (first, second))
    return torch.div(first, second) if floating else torch.div(first, second, rounding_mode="trunc")


def modulo(call: Call) -> Tensor:
    """The sign of the divisor, or with `fmod` that of the dividend."""
    first, second = call.tensor(0), call.tensor(1)
    return widened(torch.fmod if call.get("fmod") else torch.remainder, first, second)


def power(call: Call) -> Tensor:
    """The result has the type of the base."""
    base, exponent = aligned(call)
    base = call.tensor(0) if not isinstance(base, Tensor) else base
    if isinstance(exponent, Tensor) and exponent.dtype != base.dtype and not base.is_floating_point():
        return torch.pow(base.to(torch.float64), exponent).to(base.dtype)
    if isinstance(exponent, float) and not base.is_floating_point():
        return torch.pow(base.to(torch.float64), exponent).to(base.dtype)
    if isinstance(exponent, float) and exponent.is_integer():
        exponent = int(exponent)
    return in_type(torch.pow(base, exponent), base.dtype)


def clip(call: Call) -> Tensor:
    """Bounds are attributes before operator set 11."""
    value = call.tensor(0)
    low = call.get("min") if not call.has(1) else bound(call, 1)
    high = call.get("max") if not call.has(2) else bound(call, 2)
    if low is None and high is None:
        return value
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        lower = value if low is None else torch.maximum(value, torch.as_tensor(low, dtype=value.dtype))
        return lower if high is None else torch.minimum(lower, torch.as_tensor(high, dtype=value.dtype))
    if value.is_floating_point():
        if (low, high) == (0.0, 6.0):
            return functional.relu6(value)
        limits = torch.finfo(value.dtype)
        low, high = (
            (limit if number is None else number for number, limit in ((low, limits.min), (high, limits.max)))
            if math.inf in (low, high) or -math.inf in (low, high)
            else (low, high)
        )
    return widened(lambda x: torch.clamp(x, low, high), value)


def bound(call: Call, place: int) -> Any:
    """A number where it is known."""
    return call.number(place) if call.is_known(place) else call.tensor(place)


def cast(call: Call) -> Tensor:
    """To the type of `to`."""
    return cast_to(call.tensor(0), call.dtype("to", torch.float32), saturate=bool(call.get("saturate", 1)))


def cast_like(call: Call) -> Tensor:
    """To the type of the second input."""
    return cast_to(call.tensor(0), call.tensor(1).dtype, saturate=bool(call.get("saturate", 1)))


def cast_to(value: Tensor, dtype: torch.dtype, *, saturate: bool = True) -> Tensor:
    """As ONNX casts: float8 keeps to its range unless told not to."""
    if dtype == value.dtype:
        return value
    if dtype in FLOAT8 and saturate and value.dtype not in FLOAT8:
        largest = torch.finfo(dtype).max
        wide = value.to(torch.float32)
        return torch.clamp(wide, -largest, largest).to(dtype)
    if value.dtype in FLOAT8 and dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return value.to(torch.float32).to(dtype)
    return value.to(dtype)


def leaky_relu(call: Call) -> Tensor:
    """Slope `alpha` below zero."""
    return functional.leaky_relu(call.tensor(0), call.get("alpha", 0.01))


def elu(call: Call) -> Tensor:
    """`alpha (exp(x) - 1)` below zero."""
    return functional.elu(call.tensor(0), call.get("alpha", 1.0))


def selu(call: Call) -> Tensor:
    """Torch knows the constants of the paper alone."""
    alpha, gamma = call.get("alpha", SELU_ALPHA), call.get("gamma", SELU_GAMMA)
    if math.isclose(alpha, SELU_ALPHA, rel_tol=1e-5) and math.isclose(gamma, SELU_GAMMA, rel_tol=1e-5):
        return functional.selu(call.tensor(0))
    return functional.elu(call.tensor(0), alpha) * gamma


def celu(call: Call) -> Tensor:
    """`max(0, x) + min(0, alpha (exp(x / alpha) - 1))`."""
    return functional.celu(call.tensor(0), call.get("alpha", 1.0))


def prelu(call: Call) -> Tensor:
    """One slope, or one for each channel, is torch's own operator."""
    value, slope = call.tensor(0), call.tensor(1)
    if value.ndim > 2 and slope.ndim == 1 and slope.shape[0] == value.shape[1] != value.shape[-1]:
        return functional.prelu(value, slope)  # as before operator set 7
    per_channel = value.ndim > 1 and slope.ndim == value.ndim - 1 and slope.numel() == slope.shape[0]
    if slope.numel() == 1 or (per_channel and slope.shape[0] == value.shape[1]):
        return functional.prelu(value, slope.reshape(-1))
    return torch.where(value < 0, value * slope, value)


def hard_sigmoid(call: Call) -> Tensor:
    """`max(0, min(1, alpha x + beta))`; torch's has alpha 1/6 and beta 1/2."""
    value, alpha, beta = call.tensor(0), call.get("alpha", 0.2), call.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return functional.hardsigmoid(value)
    return torch.clamp(value * alpha + beta, 0, 1)


def shrink(call: Call) -> Tensor:
    """Zero within `lambd`, moved by `bias` beyond."""
    value, edge, bias = call.tensor(0), call.get("lambd", 0.5), call.get("bias", 0.0)
    zero = torch.zeros_like(value)
    moved = torch.where(value < -edge, value + bias, torch.where(value > edge, value - bias, zero))
    return moved.to(value.dtype)


def thresholded_relu(call: Call) -> Tensor:
    """Zero up to `alpha`."""
    return functional.threshold(call.tensor(0), call.get("alpha", 1.0), 0.0)


def gelu(call: Call) -> Tensor:
    """Exact, or by tanh."""
    return functional.gelu(call.tensor(0), approximate=call.get("approximate", "none"))


def swish(call: Call) -> Tensor:
    """`x sigmoid(alpha x)`."""
    return swish_of(call.tensor(0), call.get("alpha", 1.0))


def quick_gelu(call: Call) -> Tensor:
    """The same; ONNX Runtime calls SiLU so, too."""
    return swish_of(call.tensor(0), call.get("alpha", 1.702))


def swish_of(value: Tensor, alpha: float) -> Tensor:
    """`value sigmoid(alpha value)`."""
    return functional.silu(value) if alpha == 1.0 else value * torch.sigmoid(value * alpha)


def is_inf(call: Call) -> Tensor:
    """Of either sign, or of one."""
    value = call.tensor(0)
    if value.dtype in FLOAT8:
        value = value.to(torch.float32)
    positive, negative = call.get("detect_positive", 1), call.get("detect_negative", 1)
    if positive and negative:
        return torch.isinf(value)
    return (
        torch.zeros_like(value, dtype=torch.bool)
        if not positive and not negative
        else (torch.isposinf(value) if positive else torch.isneginf(value))
    )


def is_nan(call: Call) -> Tensor:
    """Where a value is not a number."""
    value = call.tensor(0)
    return torch.isnan(value.to(torch.float32) if value.dtype in FLOAT8 else value)


def bit_shift(call: Call) -> Tensor:
    """By as many places as the second input says; what falls out is gone."""
    value, places = call.tensor(0), call.tensor(1)
    if value.dtype == torch.uint64:
        wide, by = value.view(torch.int64), places.view(torch.int64)
        if call["direction"] == "LEFT":
            return (wide << by).view(torch.uint64)
        kept = torch.where(by > 0, ~(torch.full_like(wide, -1) << (64 - by)), torch.full_like(wide, -1))
        return ((wide >> by) & kept).view(torch.uint64)
    return widened(
        torch.bitwise_left_shift if call["direction"] == "LEFT" else torch.bitwise_right_shift, value, places
    )


def mean(call: Call) -> Tensor:
    """Mean of all inputs, element by element."""
    tensors = call.tensors()
    return reduce(torch.add, tensors) / len(tensors)


def where(call: Call) -> Tensor:
    """The second input where the first is true, else the third."""
    condition, first, second = call.tensor(0), *call.operands()[1:]
    if not isinstance(first, Tensor) and not isinstance(second, Tensor):
        first, second = call.tensor(1), call.tensor(2)
    tensors = [x for x in (first, second) if isinstance(x, Tensor)]
    wide = UNSIGNED.get(tensors[0].dtype)
    if wide is None:
        return torch.where(condition, first, second)
    first, second = (x.to(wide) if isinstance(x, Tensor) else x for x in (first, second))
    return torch.where(condition, first, second).to(tensors[0].dtype)


def xor(first: Any, second: Any) -> Tensor:
    """Logical exclusive or."""
    return torch.logical_xor(first, second)


def bit_cast(call: Call) -> Tensor:
    """The same bytes in another type."""
    return call.tensor(0).view(call.dtype("to", torch.float32))


def _divide_into(divisor: Tensor, number: Any) -> Tensor:
    if not divisor.is_floating_point():
        return divide(torch.full_like(divisor, number), divisor)
    inverse = torch.reciprocal(divisor)
    return inverse if number == 1 else inverse * number


TURNED: dict[Callable[..., Any], Callable[[Tensor, Any], Tensor]] = {
    torch.add: torch.add,
    torch.mul: torch.mul,
    torch.sub: torch.rsub,
    divide: _divide_into,
}
"""The same function with its operands in the other order."""

CONVERTERS: dict[str, Converter] = {
    "Abs": unary(torch.abs),
    "Acos": unary(torch.acos),
    "Acosh": unary(torch.acosh),
    "Add": binary(torch.add),
    "And": binary(torch.logical_and),
    "Asin": unary(torch.asin),
    "Asinh": unary(torch.asinh),
    "Atan": unary(torch.atan),
    "Atanh": unary(torch.atanh),
    "BitCast": bit_cast,
    "BitShift": bit_shift,
    "BitwiseAnd": binary(torch.bitwise_and),
    "BitwiseNot": unary(torch.bitwise_not),
    "BitwiseOr": binary(torch.bitwise_or),
    "BitwiseXor": binary(torch.bitwise_xor),
    "Cast": cast,
    "CastLike": cast_like,
    "Ceil": unary(torch.ceil),
    "Celu": celu,
    "Clip": clip,
    "Cos": unary(torch.cos),
    "Cosh": unary(torch.cosh),
    "Div": binary(divide),
    "Elu": elu,
    "Equal": comparison(torch.eq),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Floor": unary(torch.floor),
    "Gelu": gelu,
    "Greater": comparison(torch.gt),
    "GreaterOrEqual": comparison(torch.ge),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": unary(functional.hardswish),
    "IsInf": is_inf,
    "IsNaN": is_nan,
    "LeakyRelu": leaky_relu,
    "Less": comparison(torch.lt),
    "LessOrEqual": comparison(torch.le),
    "Log": unary(torch.log),
    "Max": folded(torch.maximum),
    "Mean": mean,
    "Min": folded(torch.minimum),
    "Mish": unary(functional.mish),
    "Mod": modulo,
    "Mul": binary(torch.mul),
    "Neg": unary(torch.neg),
    "Not": unary(torch.logical_not),
    "Or": binary(torch.logical_or),
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": unary(torch.reciprocal),
    "Relu": unary(torch.relu),
    "Round": unary(torch.round),
    "Selu": selu,
    "Shrink": shrink,
    "Sigmoid": unary(torch.sigmoid),
    "Sign": unary(torch.sign),
    "Sin": unary(torch.sin),
    "Sinh": unary(torch.sinh),
    "Softplus": unary(functional.softplus),
    "Softsign": unary(functional.softsign),
    "Sqrt": unary(torch.sqrt),
    "Sub": binary(torch.sub),
    "Sum": folded(torch.add),
    "Swish": swish,
    "Tan": unary(torch.tan),
    "Tanh": unary(torch.tanh),
    "ThresholdedRelu": thresholded_relu,
    "Where": where,
    "Xor": binary(xor),
    "com.microsoft.Gelu": unary(functional.gelu),
    "com.microsoft.QuickGelu": quick_gelu,
}
"""By operator."""
