"""Zeros that are no accident: pruned weights, and the rows of padding tokens. They stay exactly zero."""

import numpy as np

MEANT = 1 / 256
"""Share of exact zeros that no training leaves by chance."""


def are_meant(weights: np.ndarray) -> bool:
    """Whether the zeros of a weight were put there."""
    return weights.size - int(np.count_nonzero(weights)) >= MEANT * max(1, weights.size)
