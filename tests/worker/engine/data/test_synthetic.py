"""Made-up inputs mean something to the models that they are for."""

import numpy as np
import pytest

from app.spec.signature import Dimension, DType, Signature, TensorSpec, allows, linear_size
from worker.engine.data.synthetic import example_batch, example_shapes

BATCH, LENGTH = Dimension(name="batch", min=1), Dimension(name="length", min=1, max=12)


def signature(*tensors: tuple[str, DType, tuple[int | Dimension, ...]]) -> Signature:
    inputs = tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, dtype, shape in tensors)
    return Signature(inputs=inputs, outputs=inputs)


@pytest.mark.parametrize("dtype", ["int64", "bool", "float32"])
def test_masks_are_ones_then_shorter_prefixes(dtype: DType) -> None:
    mask = example_batch(signature(("attention_mask", dtype, (BATCH, LENGTH))), 3, 0)["attention_mask"]

    assert mask.sum(axis=1).tolist() == [12, 11, 10]
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()


def test_no_row_of_a_mask_is_empty() -> None:
    mask = example_batch(signature(("mask", "int64", (BATCH, 2))), 5, 0)["mask"]

    assert mask.sum(axis=1).min() == 1


def test_ids_fill_the_range_of_their_embedding() -> None:
    ids = example_batch(signature(("input_ids", "int64", (BATCH, LENGTH))), 64, 0, {"input_ids": 50})["input_ids"]

    assert ids.min() >= 0
    assert 40 < ids.max() < 50


def test_positions_count_and_lengths_are_those_of_the_masks() -> None:
    made = example_batch(
        signature(
            ("ids", "int64", (BATCH, LENGTH)),
            ("position_ids", "int64", (BATCH, LENGTH)),
            ("lengths", "int64", (BATCH,)),
        ),
        2,
        0,
    )

    assert made["position_ids"].tolist() == [list(range(12))] * 2
    assert made["lengths"].tolist() == [12, 11]


def test_positions_beyond_their_table_are_not_made() -> None:
    made = example_batch(signature(("position_ids", "int64", (BATCH, LENGTH))), 2, 0, {"position_ids": 4})

    assert made["position_ids"].max() < 4


def test_pictures_are_smooth_and_normal() -> None:
    made = example_batch(signature(("image", "float32", (BATCH, 3, 64, 64))), 4, 0)["image"]

    neighbours = np.corrcoef(made[..., :-1].ravel(), made[..., 1:].ravel())[0, 1]
    assert neighbours > 0.3
    assert made.std() == pytest.approx(1, abs=0.1)


def test_sizes_that_derive_from_one_dimension_fit_together() -> None:
    twice, more = Dimension(name="2*s7", min=8, max=128), Dimension(name="s7 + 1")
    shapes = example_shapes(signature(("a", "float32", (BATCH, twice)), ("b", "float32", (BATCH, more))), 2)

    assert shapes == {"a": (2, 16), "b": (2, 9)}
    assert allows(twice, 16)
    assert not allows(twice, 17)


@pytest.mark.parametrize(
    ("name", "at_five"), [("s1", 5), ("2*s1", 10), ("s1 + 3", 8), ("3*s1 - 2", 13), ("4 + s1", 9), ("batch", 5)]
)
def test_linear_sizes(name: str, at_five: int) -> None:
    size = linear_size(name)

    assert size.at({size.symbol: 5}) == at_five
    assert size.solved(at_five) == 5
