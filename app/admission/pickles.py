"""Pickles are parsed, not loaded: which opcodes, which callables, and whether the tensors fit their storages.

Accepted is what `torch.save` writes for nested tuples, lists and dicts of numbers, strings and dense tensors.
Opcodes: `pickletools`. The values are abstract: nothing that a pickle names is ever imported.
"""

import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import IO, Any

from app.admission.errors import Broken, Unsafe

MAX_OPCODES = 200_000
MAX_RANK = 64
_ITEM_BYTES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
    "ComplexFloat": 8,
    "ComplexDouble": 16,
}
_STORAGE = re.compile(r"torch (\w+)Storage")
_CALLABLE = frozenset(
    {
        "collections OrderedDict",
        "__builtin__ set",
        "builtins set",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch._tensor _rebuild_from_type_v2",
        "torch Tensor",
    }
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
    }
)
_EMPTY_CONTAINERS = frozenset({"EMPTY_LIST", "EMPTY_DICT"})
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}
_FILLS = {"APPEND": 1, "SETITEM": 2, "APPENDS": None, "SETITEMS": None}
"""How many values an opcode takes; None: all since the mark."""


class Expanded(Broken):
    """A tensor repeats its storage, as `expand()` makes it: four bytes could stand for terabytes."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a tensor's elements are: the record's key, the kind ("Float", "Long"), how many."""

    key: str
    kind: str
    elements: int


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A dense tensor; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(eq=False)
class Container:
    """A list, set or dict; of a dict `entries` are keys and values in turn."""

    entries: list[Any] = field(default_factory=list)
    is_ordered: bool = False
    """It is an OrderedDict, which may carry a `_metadata`."""


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass
class _Machine:
    """The unpickler's stack, of abstract values."""

    sizes: Mapping[str, int] | None
    """Bytes of each storage by its key; None: they follow later in the file and are compared by the caller."""
    any_device: bool
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _EMPTY_CONTAINERS:
            self.stack.append(Container())
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

    def build(self, _: Any) -> None:
        """Attach `_metadata` to an OrderedDict, as `state_dict()` does; every other object would run its own code."""
        (state,) = self._take(1)
        attributes = state.entries[::2] if isinstance(state, Container) else None
        owner = self.stack[-1]
        if attributes != ["_metadata"] or not isinstance(owner, Container) or not owner.is_ordered:
            raise Unsafe("The model carries a pickle that sets the state of an object.")

    def _since_mark(self) -> int:
        return len(self.stack) - self.marks.pop()

    def _take(self, count: int) -> list[Any]:
        if count > len(self.stack) or count < 0:
            raise Broken("a pickle takes more than it has")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _fill(self, count: int | None) -> None:
        entries = self._take(self._since_mark() if count is None else count)
        if not isinstance(self.stack[-1], Container):
            raise Broken("a pickle fills something that is no list or dict")
        self.stack[-1].entries += entries

    def _storage(self, reference: Any) -> Storage:
        match reference:
            case ("storage", _Global(name), str() as key, str() as device, int() as elements, *rest) if (
                (match := _STORAGE.fullmatch(name)) and (device == "cpu" or self.any_device) and rest in ([], [None])
            ):
                size = elements * _ITEM_BYTES[match[1]]
                if elements < 0 or (self.sizes is not None and self.sizes.get(key) != size):
                    raise Broken("a pickled tensor's storage is missing or of another size")
                return Storage(key, match[1], elements)
        raise Unsafe("The model carries a pickle that refers to something other than a storage on the CPU.")


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "BINPERSID": _Machine.refer,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


def read_pickle(stream: IO[bytes], *, sizes: Mapping[str, int] | None, any_device: bool = False) -> Any:
    """The value of the pickle that begins at the stream's position, which is left behind its end.

    `sizes`: bytes of the storages it may refer to, by key; None: any. Raises `Unsafe`, `Broken`.
    """
    machine = _Machine(sizes, any_device)
    try:
        return _run(machine, stream)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise Broken("a pickle is damaged") from error


def _run(machine: _Machine, stream: IO[bytes]) -> Any:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MAX_OPCODES:
            raise Broken("a pickle has too many opcodes")
        if opcode.name == "PROTO":
            if count or argument not in {2, 3, 4, 5}:
                raise Broken("a pickle has an unknown protocol")
        elif opcode.name == "STOP":
            if len(machine.stack) != 1 or machine.marks:
                raise Broken("a pickle does not end with its value")
            return machine.stack[0]
        elif opcode.name != "FRAME":
            machine.step(opcode.name, argument)
    raise Broken("a pickle has no end")


def _call(callee: Any, arguments: Any) -> Any:
    """The value of a call that torch.save writes; everything else is refused."""
    match (callee.name if isinstance(callee, _Global) else None), arguments:
        case "collections OrderedDict", ():
            return Container(is_ordered=True)
        case "__builtin__ set" | "builtins set", (Container(),):
            return Container()
        case "torch._utils _rebuild_tensor_v2", tuple():
            return _tensor(arguments)
        case "torch._utils _rebuild_parameter", (PickledTensor() as tensor, bool(), Container()):
            return tensor
        # A tensor with attributes: torch.export marks the dynamic dimensions of its example inputs.
        case "torch._tensor _rebuild_from_type_v2", (
            _Global("torch._utils _rebuild_tensor_v2"),
            _Global("torch Tensor"),
            tuple() as inner,
            Container(),
        ):
            return _tensor(inner)
    raise Unsafe("The model carries a pickle that calls something other than a tensor's constructor.")


def _tensor(arguments: tuple[Any, ...]) -> PickledTensor:
    match arguments:
        case (Storage() as storage, int() as offset, tuple() as size, tuple() as stride, bool(), Container()):
            _require_inside(storage.elements, offset, size, stride)
            return PickledTensor(storage, offset, size, stride)
    raise Broken("a pickled tensor is damaged")


def _require_inside(elements: int, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> None:
    if len(size) != len(stride) or len(size) > MAX_RANK or offset < 0:
        raise Broken("a pickled tensor has an impossible shape")
    if not all(type(number) is int and 0 <= number < 2**63 for number in (*size, *stride)):
        raise Broken("a pickled tensor has an impossible shape")
    if prod(size) == 0:
        return
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if last >= elements:
        raise Broken("a pickled tensor reaches beyond its storage")
    if prod(size) > elements:
        raise Expanded("a pickled tensor is larger than its storage, which it repeats")
