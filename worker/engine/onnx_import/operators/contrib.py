"""Operators of ONNX Runtime's own domain that its optimizers leave in a file: several standard ones in one."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter
from worker.engine.onnx_import.operators.convolution import convolution
from worker.engine.onnx_import.operators.products import gemm
from worker.engine.onnx_import.operators.shapes import pad

EPSILON = 1e-12
ACTIVATIONS: dict[str, Callable[[Tensor, list[float]], Tensor]] = {
    "": lambda value, _: value,
    "Relu": lambda value, _: torch.relu(value),
    "Sigmoid": lambda value, _: torch.sigmoid(value),
    "Tanh": lambda value, _: torch.tanh(value),
    "LeakyRelu": lambda value, numbers: functional.leaky_relu(value, numbers[0] if numbers else 0.01),
    "Clip": lambda value, numbers: torch.clamp(value, numbers[0], numbers[1]),
    "HardSigmoid": lambda value, numbers: torch.clamp(value * numbers[0] + numbers[1], 0, 1),
    "HardSwish": lambda value, _: functional.hardswish(value),
    "Gelu": lambda value, _: functional.gelu(value),
}


def fused_conv(call: Call) -> Tensor:
    """A convolution, a sum with a fourth input, an activation."""
    result = convolution(call)
    return _activated(call, result if not call.has(3) else result + call.tensor(3))


def fused_gemm(call: Call) -> Tensor:
    """A fully connected layer and its activation."""
    result, name = gemm(call), call.get("activation", "")
    alpha, beta = call.get("activation_alpha"), call.get("activation_beta")
    return _activated(call, result, name, [number for number in (alpha, beta) if number is not None])


def _activated(call: Call, value: Tensor, name: str | None = None, numbers: list[float] | None = None) -> Tensor:
    name = call.get("activation", "") if name is None else name
    if name not in ACTIVATIONS:
        raise call.refusal(f"the activation {name}")
    return ACTIVATIONS[name](value, call.get("activation_params") or [] if numbers is None else numbers)


def fused_matmul(call: Call) -> Tensor:
    """A scaled product of factors that may be transposed, in their matrices or across their batch."""
    first, second = (
        _turned(call.tensor(place), bool(call.get(f"trans{name}")), bool(call.get(f"transBatch{name}")))
        for place, name in enumerate("AB")
    )
    product, alpha = torch.matmul(first, second), call.get("alpha", 1.0)
    return product if alpha == 1 else product * alpha


def _turned(value: Tensor, matrix: bool, batch: bool) -> Tensor:  # noqa: FBT001  # two attributes of one node
    if batch and value.ndim > 2:
        value = value.movedim(0, -2)
    return value.transpose(-1, -2) if matrix and value.ndim > 1 else value


def bias_gelu(call: Call) -> Tensor:
    """`GELU(x + bias)`, with the error function."""
    return functional.gelu(call.tensor(0) + call.tensor(1))


def fast_gelu(call: Call) -> Tensor:
    """By tanh; a bias may be there."""
    value = call.tensor(0)
    return functional.gelu(value + call.tensor(1) if call.has(1) else value, approximate="tanh")


def skip_layer_norm(call: Call) -> tuple[Tensor, ...]:
    """A sum and its norm; the fourth output is the sum."""
    total = call.tensor(0) + call.tensor(1)
    total = total + call.tensor(4) if call.has(4) else total
    normal = _normal(call, total, call.tensor(2), call.optional(3))
    return normal, *_statistics(call, total), total


def skip_rms_norm(call: Call) -> tuple[Tensor, ...]:
    """A sum and its norm by the root of the mean square; the fourth output is the sum."""
    total = call.tensor(0) + call.tensor(1)
    total = total + call.tensor(3) if call.has(3) else total
    scale, epsilon = call.tensor(2), call.get("epsilon", EPSILON)
    normal = functional.rms_norm(total, [total.shape[-1]], scale, epsilon)
    if not _asks_for_statistics(call):
        return normal, total, total, total
    return normal, _mean(total), torch.rsqrt(total.square().mean(-1, keepdim=True) + epsilon), total


def _normal(call: Call, value: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    return functional.layer_norm(value, [value.shape[-1]], scale, bias, call.get("epsilon", EPSILON))


def _asks_for_statistics(call: Call) -> bool:
    """Whether the second or third output is read; what is there in their place otherwise is not."""
    return any(call.node.outputs[1:3])


def _statistics(call: Call, value: Tensor) -> tuple[Tensor, Tensor]:
    return (_mean(value), _deviation(call, value)) if _asks_for_statistics(call) else (value, value)


def _mean(value: Tensor) -> Tensor:
    return value.mean(-1, keepdim=True)


def _deviation(call: Call, value: Tensor) -> Tensor:
    return torch.rsqrt(value.var(-1, unbiased=False, keepdim=True) + call.get("epsilon", EPSILON))


def embed_layer_norm(call: Call) -> tuple[Tensor, ...]:
    """Embeddings of words, positions and segments, their sum and its norm; the lengths of a mask's rows."""
    words = call.tensor(0).to(torch.int64)
    places = call.tensor(8).to(torch.int64) if call.has(8) else torch.arange(words.shape[1])[None]
    total = functional.embedding(words, call.tensor(2)) + functional.embedding(places, call.tensor(3))
    if call.has(1) and call.has(4):
        total = total + functional.embedding(call.tensor(1).to(torch.int64), call.tensor(4))
    normal = _normal(call, total, call.tensor(5), call.tensor(6))
    mask = call.optional(7)
    lengths = words.new_zeros(words.shape[0]) if mask is None else mask.sum(1)
    return normal, lengths.to(torch.int32), total


def bias_softmax(call: Call) -> Tensor:
    """The softmax of a sum."""
    return torch.softmax(call.tensor(0) + call.tensor(1), call.get("axis", -1))


def bias_split_gelu(call: Call) -> Tensor:
    """The first half of the features, gated by the GELU of the other."""
    value, gate = (call.tensor(0) + call.tensor(1)).chunk(2, -1)
    return value * functional.gelu(gate)


def bias_add(call: Call) -> Tensor:
    """A bias and a residual."""
    return call.tensor(0) + call.tensor(1) + call.tensor(2)


def group_norm(call: Call) -> Tensor:
    """With channels last; SiLU may follow."""
    value = call.tensor(0)
    last = bool(call.get("channels_last", 1))
    value = value.movedim(-1, 1) if last else value
    scale, bias = call.tensor(1).to(value.dtype), call.tensor(2).to(value.dtype)
    normal = functional.group_norm(value, call["groups"], scale, bias, call.get("epsilon", 1e-5))
    normal = functional.silu(normal) if call.get("activation") else normal
    return normal.movedim(1, -1) if last else normal


def channels_last_conv(call: Call) -> Tensor:
    """A convolution of images whose channels come last; the weight is as everywhere."""
    image = call.tensor(0).movedim(-1, 1)
    inner = Call(call.node, [image, *call.inputs[1:]], {})
    return convolution(inner).movedim(1, -1)


def inverse(call: Call) -> Tensor:
    return torch.linalg.inv(call.tensor(0))


def relative_position_bias(call: Call) -> Tensor:
    """T5's: `[1, heads, queries, keys]`, looked up by the logarithm of the distance."""
    table, queries, keys = call.tensor(0), call.number(1), call.number(2)
    most, both = call["max_distance"], bool(call.get("is_bidirectional"))
    distance = torch.arange(queries)[:, None] - torch.arange(keys)[None]
    buckets = int(table.shape[0])
    bucket = torch.zeros_like(distance)
    if both:
        buckets //= 2
        bucket = (distance < 0).to(torch.int64) * buckets
        distance = distance.abs()
    else:
        distance = distance.clamp(min=0)
    exact = buckets // 2
    share = torch.log(distance.clamp(min=1) / exact) / math.log(most / exact)
    far = exact + (share * (buckets - exact)).to(torch.int64)
    bucket = bucket + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))
    return table[bucket].permute(2, 0, 1).unsqueeze(0)


CONVERTERS: dict[str, Converter] = {
    "com.microsoft.BiasAdd": bias_add,
    "com.microsoft.BiasGelu": bias_gelu,
    "com.microsoft.BiasSoftmax": bias_softmax,
    "com.microsoft.BiasSplitGelu": bias_split_gelu,
    "com.microsoft.EmbedLayerNormalization": embed_layer_norm,
    "com.microsoft.FastGelu": fast_gelu,
    "com.microsoft.FusedConv": fused_conv,
    "com.microsoft.FusedGemm": fused_gemm,
    "com.microsoft.FusedMatMul": fused_matmul,
    "com.microsoft.GroupNorm": group_norm,
    "com.microsoft.Inverse": inverse,
    "com.microsoft.NhwcConv": channels_last_conv,
    "com.microsoft.NhwcFusedConv": lambda call: _activated(call, channels_last_conv(call)),
    "com.microsoft.Pad": pad,
    "com.microsoft.RelativePositionBias": relative_position_bias,
    "com.microsoft.SkipLayerNormalization": skip_layer_norm,
    "com.microsoft.SkipSimplifiedLayerNormalization": skip_rms_norm,
    "com.microsoft.TransposeMatMul": fused_matmul,
}
"""By operator."""
