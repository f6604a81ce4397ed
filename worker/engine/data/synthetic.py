"""Inputs made up for a signature, with the meaning that their names and shapes give away."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from app.spec.signature import FLOATS, Dimension, Signature, TensorSpec, linear_size

FREE_SIZE = 16
"""Of a varying dimension that is not the batch, where its range allows it."""
PICTURE_CHANNELS = (1, 3, 4)
LEAST_SIDE = 8
"""Pixels; smaller planes are no pictures."""

Arrays = dict[str, np.ndarray]
NO_RANGES: Mapping[str, int] = MappingProxyType({})


def example_batch(signature: Signature, rows: int, seed: int, ranges: Mapping[str, int] = NO_RANGES) -> Arrays:
    """One batch by input name. Dimensions that share a name share their size.

    Floats are standard normal; planes of 1, 3 or 4 channels are smooth, as pictures are. Masks are ones, cut to a
    shorter prefix from row to row; positions count; lengths are those of the masks; other integers are below the
    number that `ranges` has for their input (the rows of its embedding), else 0 or 1: valid as indices anywhere.

    `rows` is the size of a varying first dimension, within its range.
    """
    random = np.random.default_rng(seed)
    shapes = example_shapes(signature, rows)
    steps = max((shape[1] for shape in shapes.values() if len(shape) == 2), default=1)
    return {
        tensor.name: _values(tensor, shapes[tensor.name], random, ranges.get(tensor.name), steps)
        for tensor in signature.inputs
    }


def example_shapes(signature: Signature, rows: int) -> dict[str, tuple[int, ...]]:
    """The shapes of such a batch, by input name. Sizes that are multiples of one dimension fit together."""
    sizes: dict[str, int] = {}
    for tensor in signature.inputs:
        for axis, dimension in enumerate(tensor.shape):
            if isinstance(dimension, Dimension):
                size = linear_size(dimension.name)
                if size.symbol not in sizes:
                    wanted = _size(dimension, rows if axis == 0 else FREE_SIZE)
                    sizes[size.symbol] = size.solved(wanted)
    return {
        tensor.name: tuple(
            linear_size(size.name).at(sizes) if isinstance(size, Dimension) else size for size in tensor.shape
        )
        for tensor in signature.inputs
    }


def batch_names(signature: Signature) -> frozenset[str]:
    """The dimensions that are the first of some input, by name: a state may have them elsewhere."""
    first = (tensor.shape[0] for tensor in signature.inputs if tensor.shape)
    return frozenset(size.name for size in first if isinstance(size, Dimension))


def at_least(signature: Signature, size: int) -> Signature:
    """The signature with varying sizes of inputs, the batch aside, that begin at `size`, as far as they may."""
    batch = batch_names(signature)

    def raised(axis: int | Dimension) -> int | Dimension:
        if not isinstance(axis, Dimension) or axis.name in batch:
            return axis
        least = max(axis.min or 1, size if axis.max is None else min(size, axis.max))
        return axis.model_copy(update={"min": least})

    inputs = tuple(
        tensor.model_copy(update={"shape": tuple(raised(axis) for axis in tensor.shape)}) for tensor in signature.inputs
    )
    return signature.model_copy(update={"inputs": inputs})


def _size(dimension: Dimension, wanted: int) -> int:
    least = max(wanted, dimension.min or 1)
    return least if dimension.max is None else min(least, dimension.max)


def _values(
    tensor: TensorSpec, shape: tuple[int, ...], random: np.random.Generator, below: int | None, steps: int
) -> np.ndarray:
    name = tensor.name.lower()
    if "mask" in name and len(shape) >= 2:  # rows and what is masked in them
        return _prefixes(shape).astype(_stored(tensor))
    if tensor.dtype in FLOATS:
        floats = _smooth(shape, random) if _is_picture(shape) else random.standard_normal(shape)
        return np.asarray(floats, _stored(tensor))
    if "length" in name and len(shape) == 1:
        return np.maximum(1, steps - np.arange(shape[0])).astype(tensor.dtype)
    if "position" in name and len(shape) == 2 and (below is None or below >= shape[1]):
        return np.broadcast_to(np.arange(shape[1]), shape).astype(tensor.dtype)
    return random.integers(0, 2 if below is None or tensor.dtype == "bool" else below, shape).astype(tensor.dtype)


def _stored(tensor: TensorSpec) -> str:
    """NumPy has no bfloat16."""
    return "float32" if tensor.dtype == "bfloat16" else tensor.dtype


def _prefixes(shape: tuple[int, ...]) -> np.ndarray:
    """Ones, of which row `n` of the first axis lacks the last `n`, so that every row keeps one at least."""
    length = np.maximum(1, shape[-1] - np.arange(shape[0]))
    return np.broadcast_to(np.arange(shape[-1]) < length.reshape(-1, *(1,) * (len(shape) - 1)), shape)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1] in PICTURE_CHANNELS and min(shape[2:]) >= LEAST_SIDE


def _smooth(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Normal values, half of their variance in squares of eight pixels, half pixel by pixel."""
    height, width = shape[2:]
    coarse = random.standard_normal((*shape[:2], -(-height // LEAST_SIDE), -(-width // LEAST_SIDE)))
    squares = coarse.repeat(LEAST_SIDE, axis=2).repeat(LEAST_SIDE, axis=3)[:, :, :height, :width]
    values: np.ndarray = (squares + random.standard_normal(shape)) * 0.5**0.5
    return values
