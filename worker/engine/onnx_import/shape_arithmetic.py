"""Operators on numbers that are known while the program is made: sizes, and what graphs compute of them.

NumPy does the work; where a size varies, arrays are of `object` and the same expressions build symbols.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper

from worker.engine.onnx_import.call import Call, is_symbolic_number
from worker.engine.onnx_import.values import each, in_numpy_type, is_symbolic, numbers

MOST_NUMBERS = 4096
"""Larger arrays are computed as tensors."""
Arithmetic = Callable[[Call], np.ndarray | tuple[np.ndarray, ...]]


class NotOfNumbers(Exception):
    """The result is made as a tensor instead."""


FLOATING = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def computable(call: Call) -> bool:
    """Whether everything the call reads is a small array of numbers, and its operator has a form here."""
    if call.node.op not in ARITHMETIC or not call.inputs:
        return False
    values = [value for value in call.inputs if value is not None]
    return all(
        isinstance(value, np.ndarray) and value.dtype.kind in "biufO" and value.size <= MOST_NUMBERS for value in values
    ) and not any(_holds_text(value) for value in values)


def compute(call: Call) -> np.ndarray | tuple[np.ndarray, ...]:
    """The results of such a call."""
    results = ARITHMETIC[call.node.op](call)
    if isinstance(results, tuple):
        return tuple(in_numpy_type(result) for result in results)
    return in_numpy_type(np.asarray(results))


def _holds_text(value: Any) -> bool:
    return bool(value.dtype == object and value.size and isinstance(value.reshape(-1)[0], str | bytes))


def _elementwise(symbolic: Callable[..., Any], exact: Callable[..., Any], inputs: int = 2) -> Arithmetic:
    """`exact` is NumPy's own, for arrays without symbols."""
    apply = each(symbolic, inputs)

    def compute(call: Call) -> np.ndarray:
        arrays = [call.numbers(place) for place in range(len(call))]
        if not any(is_symbolic(array) for array in arrays):
            return np.asarray(exact(*arrays))
        return apply(*arrays)

    return compute


def _folded(symbolic: Callable[[Any, Any], Any], exact: Callable[..., Any]) -> Arithmetic:
    apply = each(symbolic, 2)

    def compute(call: Call) -> np.ndarray:
        result, *others = (call.numbers(place) for place in range(len(call)))
        for array in others:
            result = apply(result, array) if is_symbolic(result) or is_symbolic(array) else exact(result, array)
        return result

    return compute


def quotient(a: Any, b: Any) -> Any:
    """ONNX divides whole numbers towards zero; sizes are not negative."""
    if any(isinstance(number, float | np.floating | torch.SymFloat) for number in (a, b)):
        return a / b
    if is_symbolic_number(a) or is_symbolic_number(b):
        return a // b
    return int(a / b) if abs(a) < 1 << 52 else int(a) // int(b)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        if a.dtype.kind == "f":
            return a / b
        return np.asarray(np.trunc(a / np.where(b == 0, 1, b))).astype(a.dtype)


def _modulo(call: Call) -> np.ndarray:
    a, b = call.numbers(0), call.numbers(1)
    if is_symbolic(a) or is_symbolic(b):
        return each(operator.mod, 2)(a, b)
    return np.asarray(np.fmod(a, b) if call.get("fmod") else np.mod(a, b))


def _power(call: Call) -> np.ndarray:
    a, b = call.numbers(0), call.numbers(1)
    if is_symbolic(a):
        return each(operator.pow, 2)(a, b)
    return np.power(a.astype(np.float64), b).astype(a.dtype)


def _cast(call: Call) -> np.ndarray:
    array, wanted = call.numbers(0), call["to"]
    if not is_symbolic(array):
        return array.astype(_numpy_type(wanted))
    if wanted in FLOATING:
        return each(torch.sym_float, 1)(array)
    if wanted == TensorProto.BOOL:
        return each(lambda x: x != 0, 1)(array)
    return each(torch.sym_int, 1)(array)


def _numpy_type(wanted: int) -> Any:
    kind = helper.tensor_dtype_to_np_dtype(wanted)
    if kind.kind not in "biuf":
        raise NotOfNumbers
    return kind


def _gather(call: Call) -> np.ndarray:
    return np.take(call.numbers(0), call.numbers(1).astype(np.int64), axis=call.get("axis", 0))


def _slice(call: Call) -> np.ndarray:
    array = call.numbers(0)
    starts, ends = call.listed("starts", 1) or [], call.listed("ends", 2) or []
    axes, steps = call.listed("axes", 3) or range(len(starts)), call.sizes(4) if call.has(4) else [1] * len(starts)
    places: list[Any] = [slice(None)] * array.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places[axis] = slice(int(start), None if step < 0 and end < -array.shape[axis] else int(end), int(step))
    return array[tuple(places)]


def _unsqueeze(call: Call) -> np.ndarray:
    return np.expand_dims(call.numbers(0), tuple(call.listed("axes", 1) or ()))


def _squeeze(call: Call) -> np.ndarray:
    axes = call.listed("axes", 1)
    return np.squeeze(call.numbers(0), None if axes is None else tuple(axes))


def _reshape(call: Call) -> np.ndarray:
    array, shape = call.numbers(0), [int(size) for size in call.listed("shape", 1) or ()]
    if not call.get("allowzero"):
        shape = [array.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return array.reshape(shape)


def _concat(call: Call) -> np.ndarray:
    return np.concatenate([call.numbers(place) for place in range(len(call))], axis=call["axis"])


def _split(call: Call) -> tuple[np.ndarray, ...]:
    array, axis, sizes = call.numbers(0), call.get("axis", 0), call.listed("split", 1)
    parts = sizes or len(call.node.outputs)
    bounds = np.cumsum(parts)[:-1] if isinstance(parts, list) else parts
    return tuple(np.split(array, bounds, axis=axis))


def _shape(call: Call) -> np.ndarray:
    return np.array(call.numbers(0).shape, np.int64)[call.get("start", 0) : call.get("end")]


def _filled(call: Call) -> np.ndarray:
    shape = call.sizes(0)
    if any(is_symbolic_number(size) for size in shape):
        raise NotOfNumbers
    value = call.get("value", np.zeros(1, np.float32))
    return np.full(shape, value.reshape(-1)[0])


def _expand(call: Call) -> np.ndarray:
    array, shape = call.numbers(0), [int(size) for size in call.sizes(1)]
    return np.broadcast_to(array, np.broadcast_shapes(array.shape, tuple(shape)))


def _range(call: Call) -> np.ndarray:
    start, limit, step = (call.numbers(place).reshape(-1)[0] for place in range(3))
    return np.arange(start, limit, step, dtype=call.numbers(0).dtype)


def _where(call: Call) -> np.ndarray:
    return each(lambda condition, a, b: a if condition else b, 3)(*(call.numbers(place) for place in range(3)))


def _reduction(symbolic: Callable[[Any, Any], Any]) -> Arithmetic:
    def compute(call: Call) -> np.ndarray:
        array, axes = call.numbers(0), call.listed("axes", 1)
        if axes is None and call.get("noop_with_empty_axes"):
            return array
        ufunc: Any = np.frompyfunc(symbolic, 2, 1)
        result = array.astype(object)
        keep = bool(call.get("keepdims", 1))
        for axis in sorted({axis % array.ndim for axis in axes or range(array.ndim)}, reverse=True):
            result = ufunc.reduce(result, axis=axis, keepdims=keep)
        held = np.empty(np.shape(result), object)
        held[...] = result
        return held if is_symbolic(array) else held.astype(array.dtype)

    return compute


def _transpose(call: Call) -> np.ndarray:
    return np.transpose(call.numbers(0), call.get("perm"))


def _floor(number: Any) -> Any:
    return torch.sym_float(math.floor(number)) if is_symbolic_number(number) else float(math.floor(number))


def _ceil(number: Any) -> Any:
    return torch.sym_float(math.ceil(number)) if is_symbolic_number(number) else float(math.ceil(number))


def _cumulated(call: Call) -> np.ndarray:
    if call.get("exclusive") or call.get("reverse"):
        raise NotOfNumbers
    return np.cumsum(call.numbers(0), axis=int(call.sizes(1)[0]))


def _scattered(call: Call) -> np.ndarray:
    array, places, updates = call.numbers(0).astype(object), call.numbers(1), call.numbers(2)
    for place in np.ndindex(places.shape[:-1]):
        array[tuple(places[place])] = updates[place]
    return array


def _least(a: Any, b: Any) -> Any:
    return torch.sym_min(a, b) if is_symbolic_number(a) or is_symbolic_number(b) else min(a, b)


def _greatest(a: Any, b: Any) -> Any:
    return torch.sym_max(a, b) if is_symbolic_number(a) or is_symbolic_number(b) else max(a, b)


def _of_one_axis(call: Call) -> np.ndarray:
    return numbers([math.prod(call.numbers(0).shape)]).reshape(())


ARITHMETIC: dict[str, Arithmetic] = {
    "Abs": _elementwise(abs, np.abs, 1),
    "Add": _elementwise(operator.add, np.add),
    "And": _elementwise(lambda a, b: bool(a) and bool(b), np.logical_and),
    "Cast": _cast,
    "Ceil": _elementwise(_ceil, np.ceil, 1),
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "CumSum": _cumulated,
    "Div": _elementwise(quotient, _divide),
    "Equal": _elementwise(operator.eq, np.equal),
    "Expand": _expand,
    "Floor": _elementwise(_floor, np.floor, 1),
    "Gather": _gather,
    "Greater": _elementwise(operator.gt, np.greater),
    "GreaterOrEqual": _elementwise(operator.ge, np.greater_equal),
    "Identity": lambda call: call.numbers(0),
    "Less": _elementwise(operator.lt, np.less),
    "LessOrEqual": _elementwise(operator.le, np.less_equal),
    "Max": _folded(_greatest, np.maximum),
    "Min": _folded(_least, np.minimum),
    "Mod": _modulo,
    "Mul": _elementwise(operator.mul, np.multiply),
    "Neg": _elementwise(operator.neg, np.negative, 1),
    "Not": _elementwise(operator.not_, np.logical_not, 1),
    "Or": _elementwise(lambda a, b: bool(a) or bool(b), np.logical_or),
    "Pow": _power,
    "Range": _range,
    "ReduceMax": _reduction(_greatest),
    "ReduceMin": _reduction(_least),
    "ReduceProd": _reduction(operator.mul),
    "ReduceSum": _reduction(operator.add),
    "Reshape": _reshape,
    "ScatterND": _scattered,
    "Shape": _shape,
    "Size": _of_one_axis,
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _elementwise(torch.sym_sqrt, np.sqrt, 1),
    "Squeeze": _squeeze,
    "Sub": _elementwise(operator.sub, np.subtract),
    "Sum": _folded(operator.add, np.add),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""By operator."""
