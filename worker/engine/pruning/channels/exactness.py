"""The proof that removal is exact: the smaller program computes what the whole one does with zeros in its place.

It has three parts, none of which is enough alone. Every parameter of the smaller program is, bit for bit, the part of
the original that was to be kept. With these parameters the outputs are those of the masked program. And they are with
random parameters, too, with which an error shows even where the model's own weights would hide it.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from worker.engine.pruning.channels.analysis import Channels
from worker.engine.pruning.channels.decisions import Seen, run
from worker.engine.pruning.channels.errors import NotExact
from worker.engine.pruning.channels.randomised import random_parameters, telling_inputs
from worker.engine.pruning.channels.removal import Kept, blanked, cut, kept_positions, put
from worker.engine.pruning.channels.silence import Silenced, silenced
from worker.engine.torch_program.program import Program

TOLERANCE = 1e-4
"""Largest difference relative to the largest value of an output: sums in float32 are ordered differently."""
TRIALS = 3
"""Random draws until one gives finite values that masking changes: a logarithm, say, may not like the first."""
TELLING = 100 * TOLERANCE
"""An effect in which an error shows."""
SEED = 1


@dataclass(frozen=True)
class Proof:
    """Relative differences on random batches, the largest of any output or of any value that decides one."""

    difference: float
    """Of the smaller program from the masked one."""
    effect: float
    """Of masking, with the model's own parameters: far below the tolerance, no error could show."""
    random_effect: float | None
    """Of masking, with random parameters; 0 where these channels reach no output whatever the parameters are, None
    where no draw gave finite values."""


def require_exact(channels: Channels, pruned_mask: np.ndarray, smaller: Program) -> Proof:
    """Compare parameters, and both programs on one batch with each set of parameters. Raises `NotExact`.

    Whole numbers (class indices, say) must be equal, given that the values they are computed from are within the
    tolerance: see `decisions`.
    """
    kept = kept_positions(channels, pruned_mask)
    _require_same_parameters(channels, kept, smaller)
    silence = silenced(channels, pruned_mask)
    difference, effect, _ = _compared(channels, kept, silence, smaller, {}, SEED)
    random_effect: float | None = None
    for seed in range(SEED, SEED + TRIALS):
        apart_by, shown, finite = _compared(channels, kept, silence, smaller, random_parameters(channels, seed), seed)
        if finite:
            difference, random_effect = max(difference, apart_by), max(random_effect or 0.0, shown)
        if shown > TELLING:
            break
    return Proof(difference, effect, random_effect)


def _require_same_parameters(channels: Channels, kept: Kept, smaller: Program) -> None:
    module = smaller.exported.module(check_guards=False)
    for name in channels.parameters:
        expected = cut(channels.parameter(name), kept.get(name, {}))
        actual: Tensor = operator.attrgetter(name)(module).detach()
        if expected.shape != actual.shape or not torch.equal(_bits(expected), _bits(actual)):
            raise NotExact(f"Parameter {name} of the smaller model is not the part of the original that was kept.")


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _compared(
    channels: Channels, kept: Kept, silence: Silenced, smaller: Program, values: Mapping[str, Tensor], seed: int
) -> tuple[float, float, bool]:
    """The difference, the effect of masking, and whether the masked program's values are finite. Raises `NotExact`.

    `values` are the parameters to do it with, in place of the model's own.
    """
    program, inputs = channels.program, telling_inputs(channels.program, seed)
    changed = {name: values[name] if name in values else channels.parameter(name) for name in (*values, *kept)}
    with torch.inference_mode():
        whole = run(program, _with(channels, program, values), inputs)
        zeroed = {name: blanked(tensor, kept.get(name, {})) for name, tensor in changed.items()}
        expected = run(program, _with(channels, program, zeroed), inputs, silence=silence)
        finite = all(bool(tensor.isfinite().all()) for tensor in expected.outputs.values())
        if values and not finite:
            return 0.0, 0.0, False
        less = {name: cut(tensor, kept.get(name, {})) for name, tensor in values.items()}
        actual = run(smaller, _with(channels, smaller, less), inputs, expected.decision_inputs)
    return _largest_difference(expected, actual), _effect(whole, expected), finite


def _with(channels: Channels, program: Program, values: Mapping[str, Tensor]) -> fx.GraphModule:
    module = program.graph_module()
    put(module, channels, values)
    return module


def _largest_difference(expected: Seen, actual: Seen) -> float:
    pairs = {f"Output {name}": (reference, actual.outputs[name]) for name, reference in expected.outputs.items()}
    if len(expected.decision_inputs) == len(actual.decision_inputs):
        for number, (reference, other) in enumerate(
            zip(expected.decision_inputs, actual.decision_inputs, strict=True), 1
        ):
            if reference.shape == other.shape:  # else it was made smaller itself: what it decides is compared
                pairs[f"Value {number} that decides others"] = reference, other
    for name, (reference, other) in pairs.items():
        difference = apart(reference, other)
        if reference.is_floating_point() and not difference <= TOLERANCE:
            raise NotExact(f"{name} differs by {difference:.2g} of its largest value (allowed: {TOLERANCE:g}).")
        if not reference.is_floating_point() and difference:
            raise NotExact(f"{name} differs in {difference:.2%} of its values; it must be the same.")
    return max(apart(reference, other) for reference, other in pairs.values())


def _effect(whole: Seen, masked: Seen) -> float:
    outputs = [apart(reference, masked.outputs[name]) for name, reference in whole.outputs.items()]
    return max(
        [
            *outputs,
            *(
                apart(reference, other)
                for reference, other in zip(whole.decision_inputs, masked.decision_inputs, strict=True)
            ),
        ]
    )


def apart(reference: Tensor, actual: Tensor) -> float:
    """The largest difference in units of the largest value; of whole numbers, the share that differs.

    Values that are not finite must be the same ones: NaN, inf or -inf.
    """
    if reference.shape != actual.shape:
        return float("inf")
    if not reference.is_floating_point():
        return float((reference != actual).double().mean()) if reference.numel() else 0.0
    finite = reference.isfinite()
    if not torch.equal(finite, actual.isfinite()) or not torch.equal(
        _coded(reference[~finite]), _coded(actual[~finite])
    ):
        return float("inf")
    values, others = reference[finite].double(), actual[finite].double()
    if not len(values):
        return 0.0
    scale = values.abs().max()
    return float((values - others).abs().max() / (scale if scale > 0 else 1.0))


def _coded(values: Tensor) -> Tensor:
    """NaN as 0, inf as 1, -inf as -1: NaN equals nothing, itself included."""
    return values.nan_to_num(0, 1, -1)
