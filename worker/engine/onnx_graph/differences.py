"""How far two arrays are apart."""

import numpy as np

UNSEEN = 1e-6
"""Magnitudes below this count as this."""


def distance(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference, relative to the largest magnitude, of values that are defined in `want`.

    Infinite where `got` has none for one of them.
    """
    defined = np.isfinite(want)
    if not defined.any():
        return 0.0
    wide_want, wide_got = (array[defined].astype(np.float64) for array in (want, got))
    if not np.isfinite(wide_got).all():
        return float("inf")
    return float(np.abs(wide_got - wide_want).max()) / max(UNSEEN, float(np.abs(wide_want).max()))
