"""Declarative preprocessing: one function for each `Transform` of the contract, on batches `[rows, *sample]`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from app.spec.transforms import (
    CenterCrop,
    ChannelsFirst,
    Grayscale,
    Normalize,
    Resize,
    ResizeShorter,
    ToFloat,
    Transform,
)
from worker.engine.data.errors import UnreadableData

LUMA_BT601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue: ITU-R BT.601, as Pillow and OpenCV use them."""

MAX_ASPECT = 64
"""Longest picture that is scaled to its shorter side: what comes out grows with the proportions."""


def to_float(step: ToFloat, batch: np.ndarray) -> np.ndarray:
    return batch.astype(np.float32) * np.float32(step.scale)


def normalize(step: Normalize, batch: np.ndarray) -> np.ndarray:
    shape = [1] * batch.ndim
    if len(step.mean) > 1:
        shape[step.axis + 1] = len(step.mean)
    mean, std = (np.asarray(values, batch.dtype).reshape(shape) for values in (step.mean, step.std))
    return np.asarray((batch - mean) / std)


def channels_first(step: ChannelsFirst, batch: np.ndarray) -> np.ndarray:  # noqa: ARG001  # it has no parameters
    return np.ascontiguousarray(np.moveaxis(batch, -1, 1))


def grayscale(step: Grayscale, batch: np.ndarray) -> np.ndarray:  # noqa: ARG001  # it has no parameters
    weights = np.asarray(LUMA_BT601, batch.dtype).reshape(1, 3, 1, 1)
    return np.asarray((batch * weights).sum(axis=1, keepdims=True))


def resize(step: Resize, batch: np.ndarray) -> np.ndarray:
    return _scaled(batch, step.height, step.width)


def resize_shorter(step: ResizeShorter, batch: np.ndarray) -> np.ndarray:
    height, width = step.sides(*batch.shape[2:])
    if max(height, width) > step.size * MAX_ASPECT:
        raise UnreadableData(f"A picture of {batch.shape[2]} x {batch.shape[3]} pixels is a line, not a picture.")
    return _scaled(batch, height, width)


def _scaled(batch: np.ndarray, height: int, width: int) -> np.ndarray:
    if batch.shape[2:] == (height, width):
        return batch
    pixels = torch.from_numpy(np.ascontiguousarray(batch, np.float32))  # torch resizes no float16 on a CPU
    resized = interpolate(pixels, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized.numpy().astype(batch.dtype, copy=False)


def center_crop(step: CenterCrop, batch: np.ndarray) -> np.ndarray:
    top, left = round((batch.shape[2] - step.height) / 2), round((batch.shape[3] - step.width) / 2)
    return np.ascontiguousarray(batch[:, :, top : top + step.height, left : left + step.width])


IMPLEMENTATIONS: dict[type, Callable[[Any, np.ndarray], np.ndarray]] = {
    ToFloat: to_float,
    Normalize: normalize,
    ChannelsFirst: channels_first,
    Grayscale: grayscale,
    Resize: resize,
    ResizeShorter: resize_shorter,
    CenterCrop: center_crop,
}


def apply(transforms: tuple[Transform, ...], batch: np.ndarray) -> np.ndarray:
    """`batch` after every transform, in order."""
    for transform in transforms:
        batch = IMPLEMENTATIONS[type(transform)](transform, batch)
    return batch
