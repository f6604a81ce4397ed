"""The proof that removal is exact: the smaller program computes what the whole one does with zeros in its place."""

import numpy as np
import torch
from torch import Tensor

from worker.engine.channels.analysis import Channels
from worker.engine.channels.errors import NotExact
from worker.engine.channels.removal import masked
from worker.engine.program import Program

TOLERANCE = 1e-4
"""Largest difference relative to the largest value of an output: sums in float32 are ordered differently."""
CHANGED_ANSWERS = 0.01
"""Share of whole numbers (class indices, say) that may differ: a tie may fall the other way."""


def require_exact(channels: Channels, doomed: np.ndarray, smaller: Program) -> float:
    """Run both on one random batch; the largest relative difference. Raises `NotExact`."""
    example = smaller.example()
    with torch.inference_mode():
        expected = channels.program.outputs_of(masked(channels, doomed), example)
        found = smaller.outputs_of(smaller.exported.module(check_guards=False), example)
    worst = 0.0
    for name, reference in expected.items():
        difference, tolerance = _difference(reference, found[name])
        if not difference <= tolerance:
            raise NotExact(f"Output {name} differs by {difference:.2g} of its largest value (allowed: {tolerance:g}).")
        worst = max(worst, difference)
    return worst


def _difference(reference: Tensor, found: Tensor) -> tuple[float, float]:
    """How far apart, and how far they may be. NaN in one and not in the other is infinitely far."""
    if reference.shape != found.shape:
        return float("inf"), TOLERANCE
    if not reference.is_floating_point():
        return float((reference != found).double().mean()), CHANGED_ANSWERS
    if not torch.equal(reference.isfinite(), found.isfinite()):
        return float("inf"), TOLERANCE
    finite = reference.isfinite()
    values, others = reference[finite].double(), found[finite].double()
    if not len(values):
        return 0.0, TOLERANCE
    scale = values.abs().max()
    return float((values - others).abs().max() / (scale if scale > 0 else 1.0)), TOLERANCE
