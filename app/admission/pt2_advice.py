"""What a program's owner should know before a job: it will run, but it was not exported as it should have been."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.admission.bounded_json import as_dict, as_list, as_text
from app.spec.signature import Signature

MAX_GUARD = 120
_TRAINING_FLAGS = frozenset({"training", "train"})
_RANDOM = frozenset(
    {"aten.bernoulli.default", "aten.bernoulli.p", "aten.bernoulli_.float", "aten.native_dropout.default"}
)
_UNBACKED = re.compile(r"u\d+")
"""How torch names sizes that only the data decides; sizes of inputs are s0, s1, ..."""
_SIZE = re.compile(r"L\['(\w+)'\]\.size\(\)\[(\d+)\]")
_PLACE = r"L(?:\['\w+'\]|\[\d+\])+\.size\(\)\[\d+\]"
_ONE_DIMENSION = re.compile(f"{_PLACE} == {_PLACE}")
"""Two inputs share a dimension, as ids and mask share their batch: the signature says so by its name."""

_EVAL = (
    "The model was exported in training mode: dropout, stochastic depth and batch statistics are baked in. Call "
    "model.eval() before torch.export.export and upload again."
)
_DYNAMIC = (
    "The first dimension of {!r} is fixed at {}, so only this batch size can be run. Export with a dynamic batch and "
    "an example of at least two rows: torch.export.export(model.eval(), (example,), "
    "dynamic_shapes=({{0: torch.export.Dim.DYNAMIC}},))."
)
_NO_PARAMETERS = (
    "The model has no parameters, so nothing in it can be pruned or trained: its weights are buffers or constants. "
    "Export the module itself, with its weights as nn.Parameter, neither frozen nor traced."
)
_FROZEN = (
    "{} of the {} parameters were frozen (requires_grad=False) when the model was exported; steps that train the "
    "model train them, too."
)
_DATA_DEPENDENT = (
    "Sizes inside of the model depend on its data ({}), as .item(), nonzero() and boolean masks make them; steps that "
    "change the model may not be able to export it again. Use torch.where and fixed sizes instead."
)
_STATE = (
    "The program changes its own buffers ({}), so a call depends on the calls before it. Outside of PyTorch that state "
    "is not kept: what is delivered begins every call with the stored values. Take the state as an input and return "
    "the new one as an output."
)
_HALVES = (
    "The program has values in {}: it is worked on in float32, which holds them, takes and returns float32, and "
    "is delivered in the types of the target."
)
_GUARDED = (
    "The model was exported for sizes with {}{}: a branch in its code was decided by the example, and other sizes are "
    "refused or computed the same way. Export without branches on sizes, or with a Dim of the range you need."
)


@dataclass(frozen=True)
class Export:
    """The parts of a program that tell how it was exported."""

    program: dict[str, Any]
    nodes: list[dict[str, Any]]
    signature: Signature
    trainable: list[bool]
    """For every parameter, whether it was to be trained."""
    state: tuple[str, ...] = ()
    """Buffers that the program changes, by name."""
    halves: tuple[str, ...] = ()
    """Types of half precision that occur in it."""


def advice(export: Export) -> Iterator[str]:
    """Say what should have been exported otherwise, and how. Texts are checked already: names and arithmetic."""
    for spec in export.signature.inputs:
        if spec.shape and isinstance(spec.shape[0], int):
            yield _DYNAMIC.format(spec.name[:80], spec.shape[0])
            break
    if any(_trains(node) for node in export.nodes):
        yield _EVAL
    if export.halves:
        yield _HALVES.format(" and ".join(export.halves))
    if export.state:
        yield _STATE.format(", ".join(name[:80] for name in export.state[:4]))
    frozen = export.trainable.count(False)
    if not export.trainable:
        yield _NO_PARAMETERS
    elif frozen:
        yield _FROZEN.format(frozen, len(export.trainable))
    ranges = as_dict(export.program.get("range_constraints"))
    if unbacked := [name for name in ranges if _UNBACKED.fullmatch(name)]:
        yield _DATA_DEPENDENT.format(", ".join(unbacked[:4]))
    written = (as_text(guard) for guard in as_list(export.program.get("guards_code") or []))
    if guards := [guard for guard in written if not _ONE_DIMENSION.fullmatch(guard)]:
        shown = _SIZE.sub(r"\1.size(\2)", guards[0])[:MAX_GUARD]
        yield _GUARDED.format(shown, f" and {len(guards) - 1} more conditions" if guards[1:] else "")


def _trains(node: dict[str, Any]) -> bool:
    """Whether a node behaves as in training. A batch norm without running statistics does in `eval()`, too.

    Weight standardization (arXiv:1903.10520) is written as such a batch norm over weights.
    """
    if as_text(node.get("target")).removeprefix("torch.ops.") in _RANDOM:
        return True
    arguments = {argument.get("name"): as_dict(argument.get("arg")) for argument in as_list(node.get("inputs"))}
    if not any(arguments.get(flag, {}).get("as_bool") is True for flag in _TRAINING_FLAGS):
        return False
    return "running_mean" not in arguments or "as_none" not in arguments["running_mean"]
