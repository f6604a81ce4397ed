"""Which texts of an exported program reach an interpreter, and what they may say.

`torch.export.load` resolves operators with `getattr` from `torch`, `operator` and `math`; pastes node and input names
into generated Python, weight names into quoted `getattr`; evaluates expressions and guards; and imports the module
of an enum in a tree specification. So: names are identifiers, operators come from a list, the rest by grammar.
"""

import re
from collections.abc import Callable
from typing import Any

from app.admission.bounded_json import as_dict, as_list, as_text, loads
from app.admission.errors import AdmissionError, Broken, TooComplex, Unsafe, UnsupportedOperator
from app.admission.expressions import UnsafeExpression, read_size, require_guard


class WrongDevice(AdmissionError):
    """The model was exported on a device other than the CPU, which is baked into it."""

    code = "model.wrong_device"
    remedy = "Export on the CPU: model.cpu().eval(), with CPU example inputs."


_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.[A-Za-z_]\w{0,100}\.[A-Za-z_]\w{0,60}"
    r"|torch\.ops\.higher_order\.(cond|while_loop|map_impl|scan|associative_scan|wrap_with_(set_grad_enabled|autocast))"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pos|pow|eq|ne|lt|le|gt|ge|getitem|and_|or_)"
    r"|torch\.(sym_(not|min|max|float|int|ite|sum|sqrt)|_sym_sqrt)|math\.(ceil|floor|trunc|sqrt)",
    re.ASCII,
)
_DENIED = re.compile(
    r"torch\.ops\.aten\.(from_file|save|_?record|set_|set\.|_?resize|_print|_cuda|cudnn_|_pin_memory|pin_memory|\w*storage)"
)
"""Operators of aten that touch files, foreign memory, or storages behind the tensor."""
_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,400}", re.ASCII)
_QUALIFIED = re.compile(r"[\w:/ -]{1,200}(\.[\w:/ -]{1,200}){0,40}", re.ASCII)
_KEY = re.compile(r"[\w .:/-]{1,200}", re.ASCII)
_CUSTOM = frozenset({"as_custom_obj", "custom_obj", "custom_obj_values", "class_fqn"})
_IDENTIFIERS = frozenset({"name", "as_name"})
_QUALIFIED_NAMES = frozenset({"parameter_name", "buffer_name", "tensor_constant_name", "user_input_name", "fqn"})
_NAMED_VALUES = frozenset({"tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values"})
_TREE_TYPES = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
MAX_TREE_DEPTH = 32


def require_harmless(program: Any) -> None:
    """Check every text of the program; raises `UnsafeExpression`, `Unsafe`, `UnsupportedOperator`, `WrongDevice`."""
    checked: set[str] = set()
    pending = [program]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            for key, inner in value.items():
                if not _is_settled(key, inner, checked):
                    pending.append(inner)


def _is_settled(key: str, value: Any, checked: set[str]) -> bool:
    """Check what a key says about its value; whether nothing inside the value is left to check."""
    if key in _CUSTOM and value:
        raise Unsafe("The model carries a custom object, which is pickled.")
    if key in _IDENTIFIERS:
        _require(_IDENTIFIER, value, may_be_empty=True)
    elif key in _QUALIFIED_NAMES:
        _require(_QUALIFIED, value, may_be_empty=True)
    elif key in _TEXTS:
        text = as_text(value)
        if text not in checked:
            _TEXTS[key](text)
            checked.add(text)
    elif key in _VALUES and value is not None:
        _VALUES[key](value)
        return key not in _NAMED_VALUES
    else:
        return False
    return True


def require_qualified(name: str) -> None:
    """Raise `UnsafeExpression` unless a weight's name is made of attribute names; it is pasted into `getattr`."""
    _require(_QUALIFIED, name)


def _require_operator(target: str) -> None:
    if not _OPERATOR.fullmatch(target) or _DENIED.match(target):
        raise UnsupportedOperator(f"Operator {target[:80]!r} is not accepted.")


def _require(pattern: re.Pattern[str], value: Any, *, may_be_empty: bool = False) -> None:
    if value is None or (may_be_empty and value == ""):
        return
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise UnsafeExpression(f"{str(value)[:80]!r} is no name that torch.export gives.")


def _require_identifiers(names: Any) -> None:
    for name in names if isinstance(names, list) else as_dict(names):
        _require(_IDENTIFIER, name)


def _require_symbols(ranges: Any) -> None:
    for symbol in as_dict(ranges):
        read_size(symbol)


def _require_guards(guards: Any) -> None:
    for guard in as_list(guards):
        require_guard(as_text(guard))


def _require_cpu(device: Any) -> None:
    kind = as_text(as_dict(device).get("type"))
    if kind not in {"cpu", "meta"}:
        raise WrongDevice(f"The model was exported on {kind[:20]!r}.")


def _require_no_namedtuple(fields: Any) -> None:
    if fields:
        raise UnsupportedOperator(
            "The model takes or returns a namedtuple.", remedy="Return tensors, tuples or dicts, and export again."
        )


def _require_texts(metadata: Any) -> None:
    """Metadata is text for people: stack traces and module paths."""
    if not all(isinstance(text, str) for text in as_dict(metadata).values()):
        raise Broken("a node's metadata is not text")


def _require_tree(text: str) -> None:
    """Check a serialized tree specification: `[1, {"type": ..., "context": ..., "children_spec": [...]}]`."""
    match loads(text) if text else None:
        case [1, dict() as tree]:
            _require_node(tree, 0)
        case None:
            return
        case _:
            raise Broken("a tree specification is damaged")


def _require_node(tree: dict[str, Any], depth: int) -> None:
    if depth > MAX_TREE_DEPTH:
        raise TooComplex("The model's inputs or outputs nest too deep.")
    kind, context = tree.get("type"), tree.get("context")
    if kind is not None and as_text(kind) not in _TREE_TYPES:
        raise UnsupportedOperator(
            f"The model takes or returns a {kind[:60]!r}.",
            remedy="Return tensors, tuples, lists or dicts, and export again.",
        )
    keys = loads(context) if isinstance(context, str) and context else None
    for key in [] if keys is None else as_list(keys):
        if type(key) is not int:
            _require(_KEY, as_text(key))
    for child in as_list(tree.get("children_spec")):
        _require_node(as_dict(child), depth + 1)


_TEXTS: dict[str, Callable[[str], object]] = {
    "expr_str": read_size,
    "target": _require_operator,
    "as_operator": _require_operator,
    "in_spec": _require_tree,
    "out_spec": _require_tree,
}
_VALUES: dict[str, Callable[[Any], None]] = {
    **dict.fromkeys(_NAMED_VALUES, _require_identifiers),
    "forward_arg_names": _require_identifiers,
    "range_constraints": _require_symbols,
    "guards_code": _require_guards,
    "device": _require_cpu,
    "as_device": _require_cpu,
    "treespec_namedtuple_fields": _require_no_namedtuple,
    "metadata": _require_texts,
}
