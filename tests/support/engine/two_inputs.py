"""The contract of `zoo.TwoInputs`, and rows for it."""

import numpy as np

from app.spec.signature import Dimension, Signature, TensorSpec

BATCH = Dimension(name="batch", min=1, max=4096)
SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="photo", dtype="float32", shape=(BATCH, 3, 16, 16)),
        TensorSpec(name="table", dtype="float32", shape=(BATCH, 5)),
    ),
    outputs=(
        TensorSpec(name="first", dtype="float32", shape=(BATCH, 1)),
        TensorSpec(name="second", dtype="float32", shape=(BATCH, 64)),
    ),
)


def rows(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"photo": (count, 3, 16, 16), "table": (count, 5)}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
