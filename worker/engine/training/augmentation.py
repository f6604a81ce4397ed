"""Images changed at random, otherwise in every epoch, and labels that lie on them changed alike."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from app.spec.training import Augmentation, RandomCrop, RandomFlip
from worker.engine.data.batches import Batch
from worker.engine.training.losses import IGNORED

IMAGE_AXES = 4


def is_image(tensor: Tensor) -> bool:
    """Whether augmentations apply: floats `[rows, channels, height, width]`."""
    return tensor.ndim == IMAGE_AXES and tensor.is_floating_point()


def augmented(batch: Batch, augment: tuple[Augmentation, ...], random: np.random.Generator) -> Batch:
    """The batch with its images changed at random; images of the same row are changed alike, and so are its labels.

    Labels follow where they have the images' height and width: `[rows, height, width]`, or with channels. Where a crop
    lies beyond the image, the images are 0, class numbers are left out of the loss, and other labels are 0.
    """
    images = {name: tensor for name, tensor in batch.inputs.items() if is_image(tensor)}
    labels = batch.labels
    for augmentation in augment:
        drawn = random.random((2, len(batch)))
        change = partial(_changed, augmentation, drawn)
        if labels is not None and lies_on(labels.shape, images.values()):
            labels = change(labels, 0 if labels.is_floating_point() else IGNORED)
        images = {name: change(tensor, 0) for name, tensor in images.items()}
    return replace(batch, inputs={**batch.inputs, **images}, labels=labels)


def lies_on(labels: Sequence[int], images: Iterable[Tensor]) -> bool:
    """Whether labels of this shape, `[rows, ..., height, width]`, are places of the images."""
    return len(labels) >= IMAGE_AXES - 1 and any(image.shape[-2:] == labels[-2:] for image in images)


def _changed(augmentation: Augmentation, drawn: np.ndarray, images: Tensor, beyond: int) -> Tensor:
    if isinstance(augmentation, RandomFlip):
        return _flip(augmentation, drawn, images)
    return _crop(augmentation, drawn, images, beyond)


def _flip(how: RandomFlip, drawn: np.ndarray, images: Tensor) -> Tensor:
    chosen = torch.from_numpy(drawn[0] < how.probability).to(images.device)
    mirrored = images.flip(-1 if how.axis == "horizontal" else -2)
    return torch.where(chosen.view(-1, *[1] * (images.ndim - 1)), mirrored, images)


def _crop(how: RandomCrop, drawn: np.ndarray, images: Tensor, beyond: int) -> Tensor:
    padded = torch.nn.functional.pad(images, (how.padding,) * 4, value=beyond)
    height, width = images.shape[-2:]
    starts = (drawn * (2 * how.padding + 1)).astype(np.int64).T
    return torch.stack(
        [image[..., top : top + height, left : left + width] for image, (top, left) in zip(padded, starts, strict=True)]
    )
