"""The best clip of a group of weights: the share of its whole range on which rounding costs least."""

import numpy as np

SHARES = np.linspace(1.0, 0.4, 25, dtype=np.float32)
"""Of the whole range: with few codes, clipping the largest values costs less than coarse steps for all."""
CHUNK = 1 << 18
"""Values worked on at once: a few arrays of them stay in the cache."""


def best_scale(
    values: np.ndarray,
    whole: np.ndarray,
    codes: tuple[int, int],
    zero: np.ndarray | float = 0.0,
    shares: np.ndarray = SHARES,
) -> np.ndarray:
    """For each group of `values` `[groups, ..., values of a group]` the scale with the least squared error.

    Tried are `whole`, the scale of the group's whole range, `[groups, ..., 1]` and positive, times each of `shares`;
    the first of equally good ones is taken. A value stands for scale * (code - `zero`), codes lie in `codes`, from the
    lowest to the highest. The result has the shape and dtype of `whole`.
    """
    scales = np.empty_like(whole)
    zeros = np.broadcast_to(zero, whole.shape)
    groups = max(1, CHUNK // max(1, values[0].size))
    for start in range(0, len(values), groups):
        part = slice(start, start + groups)
        scales[part] = _best_scale(values[part], whole[part], codes, zeros[part].astype(values.dtype), shares)
    return scales


def _best_scale(
    values: np.ndarray, whole: np.ndarray, codes: tuple[int, int], zero: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    best, least = whole, np.full_like(whole, np.inf)
    for share in shares:
        scale = whole * share
        rounded = (np.clip(np.rint(values / scale + zero), *codes) - zero) * scale
        error = np.square(rounded - values).sum(axis=-1, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best
