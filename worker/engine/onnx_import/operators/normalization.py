"""Normalizations and dropout, each as the one operator that pruning rules and training modes know."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter

EPSILON = 1e-5


def batch_norm(call: Call) -> Tensor | tuple[Tensor, ...]:
    """By running statistics; in training mode by those of the batch, and the running ones are outputs."""
    value, scale, bias, mean, variance = (call.tensor(place) for place in range(5))
    epsilon, momentum = call.get("epsilon", EPSILON), call.get("momentum", 0.9)
    if not call.get("training_mode") or len(call.node.outputs) == 1:
        training = bool(call.get("training_mode"))
        return functional.batch_norm(value, mean, variance, scale, bias, training, 1 - momentum, epsilon)
    axes = [0, *range(2, value.ndim)]
    own_mean, own_variance = value.mean(axes), value.var(axes, unbiased=False)
    normal = functional.batch_norm(value, own_mean, own_variance, scale, bias, training=False, eps=epsilon)
    return (
        normal,
        mean * momentum + own_mean * (1 - momentum),
        variance * momentum + own_variance * (1 - momentum),
    )


def dropout(call: Call) -> tuple[Tensor, Tensor]:
    """Off unless the file says that it trains."""
    value = call.tensor(0)
    ratio = call.number(1, 0.5) if call.node.version >= 12 else call.get("ratio", 0.5)
    training = bool(call.number(2, default=False))
    if training and len(call.node.outputs) > 1 and ratio > 0:
        raise call.refusal("a training mode whose mask is an output")
    kept = torch.ones_like(value, dtype=torch.bool) if len(call.node.outputs) > 1 else value
    return functional.dropout(value, ratio, training), kept


def instance_norm(call: Call) -> Tensor:
    """Every channel of every row by its own statistics."""
    return functional.instance_norm(
        call.tensor(0), weight=call.tensor(1), bias=call.tensor(2), eps=call.get("epsilon", EPSILON)
    )


def layer_norm(call: Call) -> Tensor | tuple[Tensor, ...]:
    """Over all axes from `axis` on; mean and 1 / standard deviation where they are asked for."""
    value, axis, epsilon = call.tensor(0), call.get("axis", -1), call.get("epsilon", EPSILON)
    axis = axis % value.ndim
    normalized = list(value.shape[axis:])
    scale, bias = call.optional(1), call.optional(2)
    matches = all(part is None or list(part.shape) == normalized for part in (scale, bias))
    if matches:
        normal = functional.layer_norm(value, normalized, scale, bias, epsilon)
    else:
        normal = functional.layer_norm(value, normalized, eps=epsilon)
        normal = normal if scale is None else normal * scale
        normal = normal if bias is None else normal + bias
    if len(call.node.outputs) == 1:
        return normal
    axes = list(range(axis, value.ndim))
    mean = value.mean(axes, keepdim=True)
    return normal, mean, torch.rsqrt(value.var(axes, unbiased=False, keepdim=True) + epsilon)


def rms_norm(call: Call) -> Tensor:
    """By the root of the mean square over all axes from `axis` on."""
    value, scale, axis = call.tensor(0), call.optional(1), call.get("axis", -1)
    normalized = list(value.shape[axis % value.ndim :])
    epsilon = call.get("epsilon", EPSILON)
    if scale is None or list(scale.shape) == normalized:
        return functional.rms_norm(value, normalized, scale, epsilon)
    return functional.rms_norm(value, normalized, None, epsilon) * scale


def group_norm(call: Call) -> Tensor:
    """Scale and bias are for each channel; for each group before operator set 21."""
    value, scale, bias = call.tensor(0), call.tensor(1), call.tensor(2)
    groups = call["num_groups"]
    if call.node.version < 21 and scale.shape[0] != value.shape[1]:
        each = value.shape[1] // groups
        scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return functional.group_norm(value, groups, scale, bias, call.get("epsilon", EPSILON))


def local_response_norm(call: Call) -> Tensor:
    """By the squares of the channels around. For an even size ONNX looks further ahead, torch further back."""
    value, size = call.tensor(0), call["size"]
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    if size % 2:
        return functional.local_response_norm(value, size, alpha, beta, bias)
    before = (size - 1) // 2
    flat = value.square().flatten(2).unsqueeze(1)
    around = functional.avg_pool2d(functional.pad(flat, [0, 0, before, size - 1 - before]), (size, 1), stride=1)
    return value / (around.squeeze(1).reshape(value.shape) * alpha + bias).pow(beta)


def lp_normalization(call: Call) -> Tensor:
    """To a p-norm of 1 along an axis; zeros stay zeros."""
    value, axis = call.tensor(0), call.get("axis", -1)
    norm = torch.linalg.vector_norm(value, call.get("p", 2), axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(value), value / norm)


def mean_variance(call: Call) -> Tensor:
    """To mean 0 and variance 1 over some axes."""
    value, axes = call.tensor(0), call.get("axes", [0, 2, 3])
    mean = value.mean(axes, keepdim=True)
    deviation = (value.square().mean(axes, keepdim=True) - mean.square()).sqrt()
    return (value - mean) / (deviation + 1e-9)


CONVERTERS: dict[str, Converter] = {
    "BatchNormalization": batch_norm,
    "Dropout": dropout,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LRN": local_response_norm,
    "LayerNormalization": layer_norm,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance,
    "RMSNormalization": rms_norm,
    "SimplifiedLayerNormalization": rms_norm,
    "com.microsoft.SimplifiedLayerNormalization": rms_norm,
}
"""By operator."""
