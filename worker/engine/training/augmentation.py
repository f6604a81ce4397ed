"""Images changed at random, otherwise in every epoch."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from app.spec.training import Augmentation, RandomCrop, RandomFlip
from worker.engine.data.batches import Batch

IMAGE_AXES = 4


def is_image(tensor: Tensor) -> bool:
    """Whether augmentations apply: floats `[rows, channels, height, width]`."""
    return tensor.ndim == IMAGE_AXES and tensor.is_floating_point()


def augmented(batch: Batch, augment: tuple[Augmentation, ...], random: np.random.Generator) -> Batch:
    """The batch with its images changed at random; images of the same row are changed alike."""
    images = {name: tensor for name, tensor in batch.inputs.items() if is_image(tensor)}
    for one in augment:
        drawn = random.random((2, len(batch)))
        for name, tensor in images.items():
            images[name] = _flip(tensor, one, drawn) if isinstance(one, RandomFlip) else _crop(tensor, one, drawn)
    return replace(batch, inputs={**batch.inputs, **images})


def _flip(images: Tensor, how: RandomFlip, drawn: np.ndarray) -> Tensor:
    chosen = torch.from_numpy(drawn[0] < how.probability).to(images.device)
    mirrored = images.flip(-1 if how.axis == "horizontal" else -2)
    return torch.where(chosen[:, None, None, None], mirrored, images)


def _crop(images: Tensor, how: RandomCrop, drawn: np.ndarray) -> Tensor:
    padded = torch.nn.functional.pad(images, (how.padding,) * 4)
    height, width = images.shape[-2:]
    starts = (drawn * (2 * how.padding + 1)).astype(np.int64).T
    return torch.stack(
        [one[:, top : top + height, left : left + width] for one, (top, left) in zip(padded, starts, strict=True)]
    )
