"""Random inputs that fit a signature."""

import numpy as np

from app.spec.signature import FLOATS, Dimension, Signature, TensorSpec

FREE_SIZE = 16
"""Of a varying dimension that is not the batch, where its range allows it."""


def example_batch(signature: Signature, rows: int, seed: int) -> dict[str, np.ndarray]:
    """One batch by input name: standard normal floats, integers 0 and 1 (valid as indices and as masks).

    Dimensions that share a name share their size. `rows` is the size of a varying first dimension, within its range.
    """
    random = np.random.default_rng(seed)
    shapes = example_shapes(signature, rows)
    return {tensor.name: _values(tensor, shapes[tensor.name], random) for tensor in signature.inputs}


def example_shapes(signature: Signature, rows: int) -> dict[str, tuple[int, ...]]:
    """The shapes of such a batch, by input name."""
    sizes: dict[str, int] = {}
    for tensor in signature.inputs:
        for axis, dimension in enumerate(tensor.shape):
            if isinstance(dimension, Dimension):
                sizes.setdefault(dimension.name, _size(dimension, rows if axis == 0 else FREE_SIZE))
    return {
        tensor.name: tuple(sizes[size.name] if isinstance(size, Dimension) else size for size in tensor.shape)
        for tensor in signature.inputs
    }


def _size(dimension: Dimension, wanted: int) -> int:
    least = max(wanted, dimension.min or 1)
    return least if dimension.max is None else min(least, dimension.max)


def _values(tensor: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if tensor.dtype in FLOATS:
        return random.standard_normal(shape).astype("float32" if tensor.dtype == "bfloat16" else tensor.dtype)
    return random.integers(0, 2, shape).astype(tensor.dtype)
