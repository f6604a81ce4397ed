"""Which of its own buffers an exported program changes: operators that work in place on them, or on views of them."""

import re
from typing import Any

from app.admission.bounded_json import as_dict, as_list, as_text

_IN_PLACE = re.compile(r"torch\.ops\.aten\.[a-z][a-z0-9_]*[a-z0-9]_\.\w+", re.ASCII)
_VIEWS = re.compile(
    r"torch\.ops\.aten\.(?:alias|as_strided|chunk|detach|diagonal|expand|expand_as|flatten|movedim|narrow|permute|ravel"
    r"|reshape|reshape_as|select|slice|split|split_with_sizes|squeeze|swapaxes|t|transpose|unbind|unflatten|unsqueeze"
    r"|view|view_as)\.\w+|_operator\.getitem",
    re.ASCII,
)
"""What may give back the memory of its first argument."""
COUNTER = "num_batches_tracked"
"""Of a batch norm in training mode, which is told apart; nothing reads it."""


def changed_state(graph: dict[str, Any], signature: dict[str, Any]) -> tuple[str, ...]:
    """The names of buffers and constants that a call changes, in the order of the inputs; each kept by the program."""
    owner = _buffers(signature)
    order = dict.fromkeys(owner.values())
    changed = {
        as_text(as_dict(said).get("buffer_name"))
        for spec in as_list(signature.get("output_specs"))
        for kind, said in as_dict(spec).items()
        if kind == "buffer_mutation"
    }
    for node in as_list(graph.get("nodes")):
        target, inputs = as_text(as_dict(node).get("target")), as_list(node.get("inputs"))
        first = _first(inputs)
        in_place = _IN_PLACE.fullmatch(target) is not None
        if first not in owner or not (in_place or _VIEWS.fullmatch(target)):
            continue
        if in_place:
            changed.add(owner[first])
        for name in _results(as_list(node.get("outputs"))):
            owner[name] = owner[first]
    return tuple(name for name in order if name in changed and not name.endswith(COUNTER))


def _buffers(signature: dict[str, Any]) -> dict[str, str]:
    """By the name of the graph's value: what the buffer or constant is called."""
    owners = {}
    for spec in as_list(signature.get("input_specs")):
        for kind, said in as_dict(spec).items():
            key = {"buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}.get(kind)
            if key is not None:
                argument = as_dict(as_dict(said).get("arg"))
                owners[as_text(argument.get("name"))] = as_text(as_dict(said).get(key))
    return owners


def _first(inputs: list[Any]) -> str:
    """The tensor, or the list of them, that a node is given first."""
    argument = as_dict(as_dict(inputs[0]).get("arg")) if inputs else {}
    tensors = [argument.get("as_tensor")] if "as_tensor" in argument else argument.get("as_tensors") or []
    return next((as_text(as_dict(tensor).get("name")) for tensor in as_list(tensors)), "")


def _results(outputs: list[Any]) -> list[str]:
    """The names of the tensors that a node gives, singly or as a list."""
    names = []
    for output in outputs:
        argument = as_dict(output)
        listed = [argument["as_tensor"]] if "as_tensor" in argument else argument.get("as_tensors") or []
        names += [as_text(as_dict(tensor).get("name")) for tensor in as_list(listed)]
    return names
