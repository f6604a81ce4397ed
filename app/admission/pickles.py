"""Pickles are parsed, not loaded: which opcodes, which callables, and whether the tensors fit their storages.

Accepted is what `torch.save` writes for nested tuples, lists and dicts of numbers, strings and dense tensors.
Opcodes: `pickletools`. The values are abstract: nothing that a pickle names is ever imported.
"""

import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from app.admission.errors import Broken, Unsafe
from app.admission.zipped import Archive

MAX_BYTES = 4 << 20
MAX_OPCODES = 200_000
MAX_RANK = 64
_ITEM_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip
_STORAGE = re.compile(r"torch (\w+)Storage")
_CALLABLE = frozenset({
    "collections OrderedDict", "__builtin__ set", "builtins set", "torch._utils _rebuild_tensor_v2",
    "torch._tensor _rebuild_from_type_v2", "torch Tensor",
})  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
})  # fmt: skip
_EMPTY_CONTAINERS = frozenset({"EMPTY_LIST", "EMPTY_DICT"})
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}
_FILLS = {"APPEND": 1, "SETITEM": 2, "APPENDS": None, "SETITEMS": None}
"""How many values an opcode takes; None: all since the mark."""


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    elements: int


class _Opaque:
    """A value that is complete and harmless: a tensor, an OrderedDict, or the content of a list or dict."""


@dataclass
class _Machine:
    """The unpickler's stack, of abstract values."""

    records: Mapping[str, int]
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _EMPTY_CONTAINERS:
            self.stack.append(_Opaque())
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            self.stack.append(tuple(self._take(self._since_mark() if count is None else count)))
        elif opcode in _FILLS:
            self._fill(_FILLS[opcode])
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        else:
            raise Unsafe(f"The model carries a pickle with the opcode {opcode}.")

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, key: int) -> None:
        self.stack.append(self.memo[key])

    def name(self, name: str) -> None:
        storage = _STORAGE.fullmatch(name)
        if name not in _CALLABLE and not (storage and storage[1] in _ITEM_BYTES):
            raise Unsafe(f"The model carries a pickle that names {name[:80]!r}.")
        self.stack.append(_Global(name))

    def refer(self, _: Any) -> None:
        self.stack.append(self._storage(*self._take(1)))

    def reduce(self, _: Any) -> None:
        self.stack.append(_call(*self._take(2)))

    def _since_mark(self) -> int:
        return len(self.stack) - self.marks.pop()

    def _take(self, count: int) -> list[Any]:
        if count > len(self.stack) or count < 0:
            raise Broken("a pickle takes more than it has")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _fill(self, count: int | None) -> None:
        self._take(self._since_mark() if count is None else count)
        if not isinstance(self.stack[-1], _Opaque):
            raise Broken("a pickle fills something that is no list or dict")

    def _storage(self, reference: Any) -> _Storage:
        match reference:
            case ("storage", _Global(name), str() as key, "cpu", int() as elements) if found := _STORAGE.fullmatch(
                name
            ):
                if self.records.get(key) != elements * _ITEM_BYTES[found[1]]:
                    raise Broken("a pickled tensor's storage is missing or of another size")
                return _Storage(elements)
        raise Unsafe("The model carries a pickle that refers to something other than a storage on the CPU.")


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark, "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put, "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get, "LONG_BINGET": _Machine.get, "GLOBAL": _Machine.name, "BINPERSID": _Machine.refer,
    "REDUCE": _Machine.reduce,
}  # fmt: skip


def _call(callee: Any, arguments: Any) -> _Opaque:
    """The value of a call that torch.save writes; everything else is refused."""
    match (callee.name if isinstance(callee, _Global) else None), arguments:
        case ("collections OrderedDict", ()) | ("__builtin__ set" | "builtins set", (_Opaque(),)):
            return _Opaque()
        case "torch._utils _rebuild_tensor_v2", tuple():
            return _tensor(arguments)
        # A tensor with attributes: torch.export marks the dynamic dimensions of its example inputs.
        case "torch._tensor _rebuild_from_type_v2", (
            _Global("torch._utils _rebuild_tensor_v2"),
            _Global("torch Tensor"),
            tuple() as inner,
            _Opaque(),
        ):
            return _tensor(inner)
    raise Unsafe("The model carries a pickle that calls something other than a tensor's constructor.")


def _tensor(arguments: tuple[Any, ...]) -> _Opaque:
    match arguments:
        case (_Storage() as storage, int() as offset, tuple() as size, tuple() as stride, bool(), _Opaque()):
            _require_inside(storage.elements, offset, size, stride)
            return _Opaque()
    raise Broken("a pickled tensor is damaged")


def require_harmless_tensors(archive: Archive) -> None:
    """Check a file that `torch.save` wrote; raises `Unsafe` or `Broken`."""
    members = {name.partition("/")[2]: member for name, member in archive.members.items()}
    if "data.pkl" not in members or any(not member.stored for member in members.values()):
        raise Unsafe("The model carries a payload that is not a file written by torch.save.")
    records = {name[5:]: member.size for name, member in members.items() if name.startswith("data/")}
    others = members.keys() - {"data.pkl", "byteorder", "version"} - {f"data/{key}" for key in records}
    if others - {".format_version", ".storage_alignment", ".data/serialization_id"}:
        raise Unsafe("The model carries a payload with members that torch.save does not write for tensors.")
    pickle = archive.read(members["data.pkl"], MAX_BYTES)
    machine = _Machine(records)
    try:
        _run(machine, pickle)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise Broken("a pickle is damaged") from error


def _run(machine: _Machine, pickle: bytes) -> None:
    for count, (opcode, argument, position) in enumerate(pickletools.genops(pickle)):
        if count > MAX_OPCODES:
            raise Broken("a pickle has too many opcodes")
        if opcode.name == "PROTO":
            if position or argument not in {2, 3, 4, 5}:
                raise Broken("a pickle has an unknown protocol")
        elif opcode.name == "STOP":
            if (position or 0) + 1 != len(pickle) or len(machine.stack) != 1 or machine.marks:
                raise Broken("a pickle does not end with its value")
            return
        elif opcode.name != "FRAME":
            machine.step(opcode.name, argument)
    raise Broken("a pickle has no end")


def _require_inside(elements: int, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> None:
    if len(size) != len(stride) or len(size) > MAX_RANK or offset < 0:
        raise Broken("a pickled tensor has an impossible shape")
    if not all(type(number) is int and number >= 0 for number in (*size, *stride)):
        raise Broken("a pickled tensor has an impossible shape")
    if prod(size) == 0:
        return
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if last >= elements or prod(size) > elements:
        raise Broken("a pickled tensor reaches beyond its storage")
