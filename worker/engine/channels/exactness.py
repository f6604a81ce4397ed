"""The proof that removal is exact: the smaller program computes what the whole one does with zeros in its place."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Proof:
    """Relative differences on one random batch, the largest of any output."""

    difference: float
    """Of the smaller program from the masked one."""
    effect: float
    """Of masking: where it is none, no difference could have shown."""


def require_exact(channels: Channels, doomed: np.ndarray, smaller: Program) -> Proof:
    """Run the program, the masked one and the smaller one on one batch. Raises `NotExact`."""
    program, example = channels.program, smaller.example()
    with torch.inference_mode():
        whole = program.outputs_of(program.exported.module(check_guards=False), example)
        expected = program.outputs_of(masked(channels, doomed), example)
        found = smaller.outputs_of(smaller.exported.module(check_guards=False), example)
    worst = 0.0
    for name, reference in expected.items():
        difference, tolerance = _difference(reference, found[name])
        if not difference <= tolerance:
            raise NotExact(f"Output {name} differs by {difference:.2g} of its largest value (allowed: {tolerance:g}).")
        worst = max(worst, difference)
    return Proof(worst, max(_difference(whole[name], reference)[0] for name, reference in expected.items()))


def _difference(reference: Tensor, found: Tensor) -> tuple[float, float]:
    """How far apart, and how far they may be. Values that are not finite must be the same ones: NaN, inf or -inf."""
    if reference.shape != found.shape:
        return float("inf"), TOLERANCE
    if not reference.is_floating_point():
        return float((reference != found).double().mean()), CHANGED_ANSWERS
    finite = reference.isfinite()
    if not torch.equal(finite, found.isfinite()) or not torch.equal(_coded(reference[~finite]), _coded(found[~finite])):
        return float("inf"), TOLERANCE
    values, others = reference[finite].double(), found[finite].double()
    if not len(values):
        return 0.0, TOLERANCE
    scale = values.abs().max()
    return float((values - others).abs().max() / (scale if scale > 0 else 1.0)), TOLERANCE


def _coded(values: Tensor) -> Tensor:
    """NaN as 0, inf as 1, -inf as -1: NaN equals nothing, itself included."""
    return values.nan_to_num(0, 1, -1)
