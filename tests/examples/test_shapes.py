"""The drawn pictures are what the examples and the benchmarks take them for."""

import numpy as np
import torch

from examples.shapes import CHUNK, SHAPES, SIDE, SmallResNet, shapes, top1, train


def test_pictures_come_from_the_seed() -> None:
    images, labels = shapes(480, seed=3)

    assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (480, 3, SIDE, SIDE), np.int64)
    assert np.array_equal(np.bincount(labels), np.full(len(SHAPES), 20))
    again, same = shapes(480, seed=3)
    assert np.array_equal(images, again)
    assert np.array_equal(labels, same)
    assert not np.array_equal(images, shapes(480, seed=4)[0])
    assert len(np.unique(images.reshape(480, -1), axis=0)) == 480


def test_more_than_a_chunk_is_drawn() -> None:
    images, labels = shapes(CHUNK + 5)
    assert len(images) == len(labels) == CHUNK + 5
    assert images[-5:].std(axis=(1, 2, 3)).min() > 0


def test_a_class_is_not_told_by_its_colours() -> None:
    """The nearest mean picture finds hardly more than guessing (1 in 24) does; a network finds nine in ten."""
    images, labels = shapes(2_400)
    pixels = images.reshape(len(images), -1).astype(np.float32)
    means = np.stack([pixels[:1_800][labels[:1_800] == label].mean(0) for label in range(len(SHAPES))])
    distances = ((pixels[1_800:, None] - means) ** 2).sum(2)
    assert (distances.argmin(1) == labels[1_800:]).mean() < 0.12


def test_the_network_learns() -> None:
    """A narrow one, on few pictures: it knows them by heart."""
    assert 0.3e6 < sum(weight.numel() for weight in SmallResNet().parameters()) < 0.7e6
    images, labels = shapes(192)
    torch.manual_seed(0)
    assert top1(train(SmallResNet(width=8), images, labels, epochs=20, batch=32), images, labels) > 0.3
