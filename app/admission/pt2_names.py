"""What the outputs of an exported program are called: by the keys of the dict that it returns, as its author does."""

import itertools
import keyword
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from app.admission.bounded_json import as_dict, as_list, loads

MAX_CHARACTERS = 100


def output_names(module: dict[str, Any], given: Sequence[str], inputs: Collection[str]) -> tuple[str, ...]:
    """Names of the outputs, of which the graph calls its values `given`; `module` is the program's graph_module.

    A dict's values are called by their keys, those of nested ones by all keys on the way: "head_boxes". Where there
    is no key, the name is no identifier, or an input or another output has it, the graph's own name stays.
    """
    keyed = list(_keyed(_tree(module), ()))
    if len(keyed) != len(given):
        return tuple(given)
    count = Counter(keyed)
    taken = {*given, *inputs}
    return tuple(
        name if name.isidentifier() and not keyword.iskeyword(name) and count[name] == 1 and name not in taken else old
        for name, old in zip(keyed, given, strict=True)
    )


def _tree(module: dict[str, Any]) -> dict[str, Any]:
    """How the outputs nest; admission has checked it. Empty where the program does not say."""
    for call in as_list(module.get("module_call_graph") or []):
        signature = as_dict(call).get("signature")
        if as_dict(call).get("fqn") == "" and signature is not None:
            text = as_dict(signature).get("out_spec")
            match loads(text) if text else None:
                case [1, dict() as tree]:
                    return tree
    return {}


def _keyed(tree: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """For each leaf the keys that lead to it, joined, from the first key on; empty where there is none."""
    if tree.get("type") is None:
        yield "_".join(itertools.dropwhile(str.isdigit, path))[:MAX_CHARACTERS]
        return
    children = [as_dict(child) for child in as_list(tree.get("children_spec"))]
    context = tree.get("context")
    keys = loads(context) if isinstance(context, str) and context else None
    named = isinstance(keys, list) and len(keys) == len(children)
    for number, child in enumerate(children):
        yield from _keyed(child, (*path, str(keys[number] if named and isinstance(keys, list) else number)))
