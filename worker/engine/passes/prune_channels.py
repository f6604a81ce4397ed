"""prune.channels: remove channels, prove that the result is what it must be, and say what was gained."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from app.spec.prune import PruneChannels
from app.spec.report import Chart, Series
from app.spec.units import counted
from worker.engine.context import Changed, Context, Fact
from worker.engine.model import Model
from worker.engine.pruning.channels.analysis import Channels, analyse
from worker.engine.pruning.channels.choosing import candidates, choose, search
from worker.engine.pruning.channels.cost import Cost, cost_of
from worker.engine.pruning.channels.errors import NothingToPrune
from worker.engine.pruning.channels.exactness import TELLING, Proof, require_exact
from worker.engine.pruning.channels.groups import Group
from worker.engine.pruning.channels.importance import Scores, at_random, by_norm, by_scale, norms, scaled
from worker.engine.pruning.channels.reasons import OUTPUT, sentences
from worker.engine.pruning.channels.removal import Kept, kept_positions, removed
from worker.engine.pruning.channels.taylor import by_taylor
from worker.engine.report_bars import layer_bars

KEPT = "kept-channels.json"
MOST_NAMED = 3


def prune_channels(step: PruneChannels, model: Model, context: Context) -> Changed:
    """Make the program smaller; parameters keep their names, and zeros that were pruned before stay zero.

    Raises `NotImported`, `NothingToPrune`, `UnknownLayer`, `TargetUnreachable`, `ReexportFailed`, `NotExact`.
    """
    channels = analyse(model.program)
    scored = candidates(channels, _scores(step, channels, context), step)
    before = cost_of(channels)
    if step.target_macs is not None:
        pruned_mask = search(
            channels, scored, step, lambda gone: cost_of(channels, gone).macs / before.macs, step.target_macs
        )
    elif step.target_parameters is not None:
        pruned_mask = search(
            channels,
            scored,
            step,
            lambda gone: cost_of(channels, gone).parameters / before.parameters,
            step.target_parameters,
        )
    else:
        pruned_mask = choose(channels, scored, step)
    smaller = channels.program.rebuilt(removed(channels, pruned_mask))
    proof = require_exact(channels, pruned_mask, smaller)

    after, kept = cost_of(channels, pruned_mask), kept_positions(channels, pruned_mask)
    groups = [candidate.group for candidate in scored]
    return Changed(
        model.with_program(smaller, sparse=_sparse(model, channels)),
        f"Removed {_gone(groups, pruned_mask)} of {_total(groups)} channels in {len(groups)} groups "
        f"({step.criterion}): "
        f"{_share(after.parameters, before.parameters)} of the parameters and "
        f"{_share(after.macs, before.macs)} of the multiply-accumulates are left.",
        _facts(channels, before, after, proof),
        charts=(_widths(groups, pruned_mask), _norms(channels, groups, pruned_mask)),
        notes=_notes(step, channels, model, proof),
        files={KEPT: _written(kept, context.scratch / KEPT)},
    )


def _scores(step: PruneChannels, channels: Channels, context: Context) -> Scores:
    match step.criterion:
        case "l1":
            return by_norm(channels, 1)
        case "l2":
            return by_norm(channels, 2)
        case "bn_scale":
            if not any(scaled(group, channels) for group in channels.groups):
                raise NothingToPrune(
                    "No batch norm scales a channel that can be removed.", remedy="Use criterion 'l2'."
                )
            return by_scale(channels)
        case "taylor":
            rows = context.data[step.rows].sample(step.samples, context.seed)
            return by_taylor(channels, rows, context.progress, step.output)
        case "random":
            return at_random(channels, context.seed)


def _facts(channels: Channels, before: Cost, after: Cost, proof: Proof) -> dict[str, Fact]:
    frozen: Mapping[str, Fact] = {f"frozen {name}": count for name, count in channels.frozen_operators.items()}
    return {
        "parameters_before": before.parameters,
        "parameters_after": after.parameters,
        "macs_before": before.macs,
        "macs_after": after.macs,
        "groups": len(channels.groups),
        "difference_from_masked": proof.difference,
        "effect_of_masking": proof.effect,
        **({} if proof.random_effect is None else {"effect_of_masking_random_weights": proof.random_effect}),
        **frozen,
    }


def _notes(step: PruneChannels, channels: Channels, model: Model, proof: Proof) -> tuple[str, ...]:
    notes = []
    without = sum(not scaled(group, channels) for group in channels.groups)
    if step.criterion == "bn_scale" and without:
        notes.append(f"{without} groups pass no batch norm; their channels were ranked by their L2 norm.")
    notes += sentences([reason for reason in channels.reasons if reason.why != OUTPUT])
    if channels.folded:
        names = ", ".join(weight.name for weight in channels.folded[:MOST_NAMED])
        more = ", ..." if len(channels.folded) > MOST_NAMED else ""
        notes.append(
            f"{counted(len(channels.folded), 'weight')} computed from other parameters, as under weight norm, became "
            f"parameters themselves: {names}{more}. Trainings that follow train them as they are."
        )
    doubt = _doubt(proof)
    if doubt:
        notes.append(doubt)
    if model.sparse:
        notes.append("Single weights were pruned before: zeros are kept, a pattern such as 2:4 is not.")
    return tuple(notes)


def _sparse(model: Model, channels: Channels) -> frozenset[str]:
    """The pruned parameters, by the names they have once weights are folded."""
    folded = {weight.name for weight in channels.folded if model.sparse.intersection(weight.sources)}
    gone = {source for weight in channels.folded for source in weight.sources} - set(channels.parameters)
    return (model.sparse - gone) | folded


def _doubt(proof: Proof) -> str | None:
    """What the proof could not show."""
    if proof.random_effect == 0 and proof.effect == 0:
        return (
            "Zeros in these channels changed no output, neither with the model's own weights nor with random ones: "
            "nothing that they compute reaches an output, so that any of them may go."
        )
    if proof.random_effect is None and proof.effect < TELLING:
        return (
            f"Zeros in these channels changed the outputs by {proof.effect:.2g} of their largest value, and with "
            "random weights the model's values are not finite: being exact on random inputs proves little here. "
            "The weights that are left were compared one by one."
        )
    return None


def _widths(groups: Sequence[Group], pruned_mask: np.ndarray) -> Chart:
    before, left = (
        [group.channels for group in groups],
        [group.channels - _gone([group], pruned_mask) for group in groups],
    )
    return layer_bars(
        "Channels per layer", "channels", [group.name for group in groups], {"before": before, "after": left}
    )


def _norms(channels: Channels, groups: Sequence[Group], pruned_mask: np.ndarray) -> Chart:
    """Every channel's norm in units of its group's mean, sorted: the tail that was cut shows."""
    before = [values / max(values.mean(), np.finfo(float).tiny) for values in norms(channels, groups)]
    after = [values[~pruned_mask[group.classes]] for group, values in zip(groups, before, strict=True)]
    shares = np.linspace(0, 1, 101)
    return Chart(
        title="Channel norms, smallest first",
        kind="line",
        x_label="share of channels",
        y_label="L2 norm / mean of its layer",
        x=tuple(shares.round(2).tolist()),
        series=tuple(
            Series(name=name, values=tuple(np.quantile(np.concatenate(values), shares).tolist()))
            for name, values in (("before", before), ("after", after))
        ),
    )


def _written(kept: Kept, path: Path) -> Path:
    """Parameter -> dimension -> the positions of the original that were kept."""
    listed = {name: {str(axis): positions.tolist() for axis, positions in dims.items()} for name, dims in kept.items()}
    path.write_text(json.dumps(listed), encoding="utf-8")
    return path


def _gone(groups: Sequence[Group], pruned_mask: np.ndarray) -> int:
    return sum(int(pruned_mask[group.classes].sum()) * group.width for group in groups)


def _total(groups: Sequence[Group]) -> int:
    return sum(group.channels for group in groups)


def _share(after: int, before: int) -> str:
    return f"{after / before:.0%}" if before else "all"
