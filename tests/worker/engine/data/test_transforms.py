"""Preprocessing does what the contract says, and the contract predicts what it makes."""

from typing import get_args

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from app.spec.transforms import ResizeShorter, Transform
from worker.engine.data import transforms
from worker.engine.data.errors import UnreadableData

CASES = [
    ({"type": "to_float"}, (3, 8, 8), "uint8"),
    ({"type": "to_float", "scale": 1.0}, (5,), "int64"),
    ({"type": "normalize", "mean": [0.5], "std": [2.0]}, (4, 4), "float32"),
    ({"type": "normalize", "mean": [1, 2, 3], "std": [4, 5, 6]}, (3, 4, 4), "float64"),
    ({"type": "normalize", "mean": [1, 2, 3], "std": [4, 5, 6], "axis": 2}, (4, 4, 3), "float32"),
    ({"type": "channels_first"}, (4, 5, 3), "uint8"),
    ({"type": "grayscale"}, (3, 4, 5), "float32"),
    ({"type": "resize", "height": 5, "width": 9}, (3, 12, 7), "float32"),
    ({"type": "resize", "height": 5, "width": 9}, (1, 3, 4), "float16"),
    ({"type": "resize_shorter", "size": 6}, (3, 12, 7), "float32"),
    ({"type": "resize_shorter", "size": 9}, (1, 5, 5), "float16"),
    ({"type": "center_crop", "height": 3, "width": 2}, (3, 8, 7), "uint8"),
]
ANY = TypeAdapter(Transform)


@pytest.mark.parametrize(("declared", "shape", "dtype"), CASES)
def test_after_predicts_shape_and_dtype(declared: dict, shape: tuple[int, ...], dtype: str) -> None:
    transform = ANY.validate_python(declared)
    batch = np.random.default_rng(0).integers(0, 200, (6, *shape)).astype(dtype)

    made = transforms.apply((transform,), batch)

    assert ((made.shape[1:]), str(made.dtype)) == transform.after(shape, dtype)
    assert len(made) == 6


def test_every_transform_has_one_implementation_and_a_case() -> None:
    classes = set(get_args(get_args(Transform)[0]))

    assert classes == set(transforms.IMPLEMENTATIONS)
    assert classes == {type(ANY.validate_python(declared)) for declared, _, _ in CASES}


def apply(declared: dict, batch: np.ndarray) -> np.ndarray:
    return transforms.apply((ANY.validate_python(declared),), batch)


def test_values() -> None:
    pixels = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    assert np.allclose(apply({"type": "to_float"}, pixels), pixels / 255)
    assert np.array_equal(apply({"type": "channels_first"}, pixels), pixels.transpose(0, 3, 1, 2))

    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    normal = apply({"type": "normalize", "mean": [1, 2, 3], "std": [4, 5, 6]}, planes)
    assert np.allclose(normal[:, 1], (planes[:, 1] - 2) / 5)
    gray = apply({"type": "grayscale"}, planes)
    assert np.allclose(gray[:, 0], 0.299 * planes[:, 0] + 0.587 * planes[:, 1] + 0.114 * planes[:, 2], rtol=1e-6)


def test_resize_averages_when_it_shrinks() -> None:
    """Without antialiasing, every second column of a checkerboard would be all that is left."""
    board = np.indices((16, 16)).sum(0) % 2
    shrunk = apply({"type": "resize", "height": 4, "width": 4}, board[None, None].astype(np.float32))

    assert np.allclose(shrunk[0, 0, 1:-1, 1:-1], 0.5, atol=0.02)


def test_center_crop_takes_the_middle() -> None:
    image = np.arange(25.0).reshape(1, 1, 5, 5)
    assert np.array_equal(apply({"type": "center_crop", "height": 1, "width": 3}, image)[0, 0], [[11, 12, 13]])


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((30, 20), (24, 16)), ((20, 30), (16, 24)), ((17, 50), (16, 47)), ((25, 25), (16, 16)), ((12, 40), (16, 53))],
)
def test_the_shorter_side_is_scaled_as_torchvision_does(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Its sizes, and Pillow's bilinear filter, which it uses for pictures."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, *size), np.uint8)

    (scaled,) = transforms.apply((ResizeShorter(size=16),), pixels[None].astype(np.float32))

    assert scaled.shape == (3, *wanted)
    picture = Image.fromarray(pixels.transpose(1, 2, 0)).resize(wanted[::-1], Image.Resampling.BILINEAR)
    assert np.abs(scaled - np.asarray(picture).transpose(2, 0, 1)).max() < 1.5


def test_a_line_is_not_scaled_to_its_shorter_side() -> None:
    with pytest.raises(UnreadableData, match="a line"):
        transforms.apply((ResizeShorter(size=4096),), np.zeros((1, 3, 1, 65), np.float32))
