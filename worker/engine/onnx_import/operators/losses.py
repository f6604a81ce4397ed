"""Losses, which a file has that was exported for training."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter

IGNORED = -100
"""What torch ignores; ONNX ignores nothing unless told to. No class has this number."""


def negative_log_likelihood(call: Call) -> Tensor:
    """Of logarithms of probabilities, the classes on the second axis."""
    return _loss(call, call.tensor(0))


def cross_entropy(call: Call) -> tuple[Tensor, Tensor]:
    """Of scores; the second output is the logarithm of their softmax."""
    logarithms = torch.log_softmax(call.tensor(0), 1)
    return _loss(call, logarithms), logarithms


def _loss(call: Call, logarithms: Tensor) -> Tensor:
    ignored = call.get("ignore_index", IGNORED)
    return functional.nll_loss(
        logarithms, call.tensor(1).to(torch.int64), call.optional(2), None, ignored, None, call.get("reduction", "mean")
    )


CONVERTERS: dict[str, Converter] = {
    "NegativeLogLikelihoodLoss": negative_log_likelihood,
    "SoftmaxCrossEntropyLoss": cross_entropy,
}
"""By operator."""
