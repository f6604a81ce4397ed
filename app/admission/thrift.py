"""A reader of Thrift's compact protocol that keeps only the fields it is asked for.

Encoding: thrift/doc/specs/thrift-compact-protocol.md. Depth, strings and the number of values are bounded, so that a
few bytes cannot announce a structure that does not end or does not fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.admission.errors import Broken

MAX_DEPTH = 16
MAX_VALUES = 500_000
MAX_STRING_BYTES = 4096
"""Longest string that is kept; longer ones may be passed over."""

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = frozenset({_I16, _I32, _I64})


@dataclass(frozen=True, eq=False)
class Struct:
    """The fields of a structure to keep: their numbers, and what they hold."""

    fields: Mapping[int, "Kind"]


@dataclass(frozen=True, eq=False)
class ListOf:
    """A list to keep."""

    items: "Kind"


Kind = Struct | ListOf | type[int] | type[bytes] | type[bool]
"""`bool` only tells whether the field is there."""
_TYPES: Mapping[Any, frozenset[int]] = {int: _INTEGERS, bytes: frozenset({_BINARY})}


class Reader:
    """Reads one structure from the start of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._left = MAX_VALUES

    def read(self, wanted: Struct) -> dict[int, Any]:
        """The wanted fields that are there, by number; raises `Broken` if the bytes are malformed or there are more."""
        fields = self._struct(wanted, 0)
        if self._position != len(self._data):
            raise Broken("a structure is shorter than it should be")
        return fields

    def _struct(self, wanted: Struct | None, depth: int) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            self._count(depth)
            code, step = head & 0x0F, head >> 4
            number = number + step if step else self._signed()
            kind = wanted.fields.get(number) if wanted else None
            if kind is not None and number in fields:
                raise Broken("a structure has a field twice")
            if code in {_TRUE, _FALSE} and kind not in {None, bool}:
                raise Broken("a field has another type than its format says")
            value = code == _TRUE if code in {_TRUE, _FALSE} else self._value(code, kind, depth + 1)
            if kind is not None:
                fields[number] = True if kind is bool else value
        return fields

    def _value(self, code: int, kind: Kind | None, depth: int) -> Any:
        self._count(depth)
        if isinstance(kind, Struct) != (code == _STRUCT) and kind not in {None, bool}:
            raise Broken("a field has another type than its format says")
        if code == _STRUCT:
            return self._struct(kind if isinstance(kind, Struct) else None, depth)
        if code in {_LIST, _SET}:
            return self._list(kind, depth)
        if kind not in {None, bool} and code not in _TYPES.get(kind, frozenset()):
            raise Broken("a field has another type than its format says")
        if code == _MAP:
            return self._map(depth)
        return self._scalar(code, keep=kind is bytes)

    def _scalar(self, code: int, *, keep: bool) -> int | bytes:
        if code in _INTEGERS:
            return self._signed()
        if code == _BINARY:
            return self._binary(keep=keep)
        if code in {_BYTE, _TRUE, _FALSE}:
            return self._byte()
        if code == _DOUBLE:
            return self._take(8)
        raise Broken("a field has an unknown type")

    def _list(self, kind: Kind | None, depth: int) -> list[Any]:
        if kind not in {None, bool} and not isinstance(kind, ListOf):
            raise Broken("a field has another type than its format says")
        head = self._byte()
        count, code = head >> 4, head & 0x0F
        if count == 0x0F:
            count = self._varint()
        item = kind.items if isinstance(kind, ListOf) else None
        kept = []
        for _ in range(min(count, MAX_VALUES + 1)):
            value = self._value(code, item, depth + 1)
            if item is not None:
                kept.append(value)
        return kept

    def _map(self, depth: int) -> None:
        count = self._varint()
        types = self._byte() if count else 0
        for _ in range(min(count, MAX_VALUES + 1)):
            self._value(types >> 4, None, depth + 1)
            self._value(types & 0x0F, None, depth + 1)

    def _binary(self, *, keep: bool) -> bytes:
        size = self._varint()
        if keep and size > MAX_STRING_BYTES:
            raise Broken("a name is too long")
        if size > len(self._data) - self._position:
            raise Broken("a string reaches beyond its structure")
        if keep:
            return self._take(size)
        self._position += size
        return b""

    def _count(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise Broken("a structure is nested too deeply or has too many values")

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
        raise Broken("a number is longer than 64 bits")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, size: int) -> bytes:
        piece = self._data[self._position : self._position + size]
        if len(piece) != size:
            raise Broken("a structure is cut off")
        self._position += size
        return piece
