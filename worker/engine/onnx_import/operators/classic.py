"""Operators of ai.onnx.ml: models of tables of numbers, as scikit-learn's converters write them."""

import numpy as np
import torch
from torch import Tensor

from worker.engine.onnx_import.call import Call, Converter


def binarizer(call: Call) -> Tensor:
    """One above a threshold, else zero."""
    value = call.tensor(0)
    return (value > call.get("threshold", 0.0)).to(value.dtype)


def scaler(call: Call) -> Tensor:
    """`(x - offset) * scale`, for every feature or all alike."""
    value = call.tensor(0).to(torch.float32)
    offset, scale = (torch.tensor(call.get(name) or [default]) for name, default in (("offset", 0.0), ("scale", 1.0)))
    return (value - offset) * scale


def normalizer(call: Call) -> Tensor:
    """Every row to a norm of 1."""
    value = call.tensor(0).to(torch.float32)
    norm = {"MAX": torch.inf, "L1": 1, "L2": 2}[call.get("norm", "MAX")]
    size = torch.linalg.vector_norm(value, norm, 1, keepdim=True)
    return value / torch.where(size == 0, torch.ones_like(size), size)


def imputer(call: Call) -> Tensor:
    """What stands for "missing" is replaced."""
    value = call.tensor(0)
    floats = value.is_floating_point()
    given = call.get("imputed_value_floats" if floats else "imputed_value_int64s")
    missing = call.get("replaced_value_float" if floats else "replaced_value_int64", 0)
    hit = torch.isnan(value) if floats and np.isnan(missing) else value == missing
    return torch.where(hit, torch.tensor(given, dtype=value.dtype), value)


def linear_regressor(call: Call) -> Tensor:
    """One weighted sum for each target."""
    targets = call.get("targets", 1)
    return _post(call, _scores(call, targets))


def linear_classifier(call: Call) -> tuple[Tensor, Tensor]:
    """The label of the largest score, and the scores. Labels are whole numbers."""
    labels = call.get("classlabels_ints")
    if not labels:
        raise call.refusal("labels that are texts; deliver the scores")
    count = len(call["coefficients"]) // int(call.tensor(0).shape[-1])
    scores = _scores(call, count)
    if count == 1 and len(labels) == 2:
        return torch.where(scores[:, 0] > 0, labels[1], labels[0]), _post(call, torch.cat([-scores, scores], 1))
    return torch.tensor(labels)[scores.argmax(1)], _post(call, scores)


def _scores(call: Call, count: int) -> Tensor:
    weight = torch.tensor(call["coefficients"]).reshape(count, -1)
    offset = torch.tensor(call.get("intercepts") or [0.0] * count)
    return torch.nn.functional.linear(call.tensor(0).to(torch.float32), weight, offset)


def _post(call: Call, scores: Tensor) -> Tensor:
    match call.get("post_transform", "NONE"):
        case "NONE":
            return scores
        case "SOFTMAX":
            return torch.softmax(scores, 1)
        case "LOGISTIC":
            return torch.sigmoid(scores)
        case other:
            raise call.refusal(f"the transform {other} of its scores")


def label_encoder(call: Call) -> Tensor:
    """Numbers looked up in a list of keys."""
    keys = _listed(call, "keys")
    values = _listed(call, "values")
    if keys is None or values is None:
        raise call.refusal("keys or values that are texts")
    default = call.get("default_tensor")
    value = call.tensor(0)
    if default is not None:
        missing = torch.tensor(np.asarray(default).reshape(-1)[0].item(), dtype=values.dtype)
    else:
        name = "default_float" if values.is_floating_point() else "default_int64"
        missing = torch.tensor(call.get(name, -0.0 if values.is_floating_point() else -1), dtype=values.dtype)
    hits = value.unsqueeze(-1) == keys.to(value.dtype)
    if value.is_floating_point():
        hits = hits | (torch.isnan(value).unsqueeze(-1) & torch.isnan(keys.to(value.dtype)))
    return torch.where(hits.any(-1), values[hits.to(torch.int64).argmax(-1)], missing)


def _listed(call: Call, side: str) -> Tensor | None:
    tensor = call.get(f"{side}_tensor")
    if tensor is not None:
        array = np.asarray(tensor)
        return None if array.dtype.kind not in "iuf" else torch.from_numpy(array.copy())
    for kind, dtype in (("int64s", torch.int64), ("floats", torch.float32)):
        if call.get(f"{side}_{kind}"):
            return torch.tensor(call[f"{side}_{kind}"], dtype=dtype)
    return None


CONVERTERS: dict[str, Converter] = {
    "ai.onnx.ml.Binarizer": binarizer,
    "ai.onnx.ml.Imputer": imputer,
    "ai.onnx.ml.LabelEncoder": label_encoder,
    "ai.onnx.ml.LinearClassifier": linear_classifier,
    "ai.onnx.ml.LinearRegressor": linear_regressor,
    "ai.onnx.ml.Normalizer": normalizer,
    "ai.onnx.ml.Scaler": scaler,
}
"""By operator."""
