"""Random numbers: of the same distribution, never the same numbers."""

import torch
from torch import Tensor

from worker.engine.onnx_import.call import Call, Converter

NAMES = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
"""What no constant may be folded of."""


def _shape(call: Call) -> tuple[list[int], torch.dtype]:
    if call.node.op.endswith("Like"):
        like = call.tensor(0)
        return list(like.shape), call.dtype("dtype", like.dtype)
    return list(call["shape"]), call.dtype("dtype", torch.float32)


def normal(call: Call) -> Tensor:
    """Of a mean and a deviation."""
    shape, dtype = _shape(call)
    return torch.randn(shape, dtype=dtype) * call.get("scale", 1.0) + call.get("mean", 0.0)


def uniform(call: Call) -> Tensor:
    """Between two numbers."""
    shape, dtype = _shape(call)
    low, high = call.get("low", 0.0), call.get("high", 1.0)
    return torch.rand(shape, dtype=dtype) * (high - low) + low


def bernoulli(call: Call) -> Tensor:
    """One with the probability that is given."""
    value = call.tensor(0)
    return (torch.rand_like(value) < value).to(call.dtype("dtype", value.dtype))


def multinomial(call: Call) -> Tensor:
    """Classes drawn by the logarithms of their probabilities."""
    weights = torch.softmax(call.tensor(0), -1)
    return torch.multinomial(weights, call.get("sample_size", 1), replacement=True).to(call.dtype("dtype", torch.int32))


CONVERTERS: dict[str, Converter] = {
    "Bernoulli": bernoulli,
    "Multinomial": multinomial,
    "RandomNormal": normal,
    "RandomNormalLike": normal,
    "RandomUniform": uniform,
    "RandomUniformLike": uniform,
}
"""By operator."""
