"""A walker over protobuf messages in a mapped file: touches only the bytes of the fields it is asked for.

Encoding: protobuf.dev/programming-guides/encoding. A parser in C++ merges repeated singular messages and guesses
at mistyped fields; here both are errors, so that no two readers see different graphs.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.admission.errors import Broken, TooComplex

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 2_000_000
MAX_STRING_BYTES = 64 << 10
_PIECE = 1 << 20


class Span(NamedTuple):
    """The bytes `[start, end)` of the file: a nested message, a string, or packed numbers."""

    start: int
    end: int


Value = int | Span
Layout = Mapping[int, frozenset[int]]
"""The wire types that each known field number may have; other fields are skipped."""


@dataclass(slots=True)
class Walker:
    """A mapped file and the number of fields that may still be read from it."""

    data: mmap.mmap
    fields_left: int = MAX_FIELDS

    def fields(self, span: Span, layout: Layout) -> Iterator[tuple[int, Value]]:
        """Yield number and value of the message's known fields; fixed-width numbers come as their raw bits.

        Raises `Broken` if the message is not well formed, `TooComplex` if the file has too many fields.
        """
        data = self.data
        position, end = span
        while position < end:
            self.fields_left -= 1
            if self.fields_left < 0:
                raise TooComplex(f"The model has more than {MAX_FIELDS} fields.")
            tag = data[position]
            position += 1
            if tag >= 0x80:
                tag, position = self._varint(position - 1, end)
            number, wire = tag >> 3, tag & 7
            value: Value
            if wire == LENGTH:
                size, position = self._varint(position, end)
                value = Span(position, position + size)
                position += size
            elif wire == VARINT:
                value, position = self._varint(position, end)
            elif wire in {FIXED32, FIXED64}:
                size = 4 if wire == FIXED32 else 8
                value = int.from_bytes(data[position : position + size], "little")
                position += size
            else:
                raise Broken("a field has an unknown encoding")
            if position > end or number == 0:
                raise Broken("a field reaches beyond its message")
            allowed = layout.get(number)
            if allowed is None:
                continue
            if wire not in allowed:
                raise Broken("a field has another type than its format says")
            yield number, value

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value, shift = 0, 0
        while position < end:
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, position
            shift += 7
            if shift > 63:
                break
        raise Broken("a number is longer than 64 bits or cut off")

    def text(self, value: Value) -> str:
        """The string in `value`; raises `Broken` if it is not UTF-8 or longer than 64 KiB."""
        if not isinstance(value, Span) or value.end - value.start > MAX_STRING_BYTES:
            raise Broken("a name is too long")
        try:
            return self.data[value.start : value.end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise Broken("a name is not UTF-8") from error

    def integers(self, value: Value, limit: int) -> list[int]:
        """The signed numbers of a repeated integer field, packed or single; raises `Broken` beyond `limit`."""
        if isinstance(value, int):
            return [signed(value)]
        numbers: list[int] = []
        position = value.start
        while position < value.end:
            number, position = self._varint(position, value.end)
            numbers.append(signed(number))
            if len(numbers) > limit:
                raise Broken(f"a list has more than {limit} numbers")
        return numbers

    def count_varints(self, value: Value) -> int:
        """How many numbers are packed in `value`: as many as there are bytes without a continuation bit."""
        if isinstance(value, int):
            return 1
        total = 0
        for start in range(value.start, value.end, _PIECE):
            piece = np.frombuffer(self.data[start : min(start + _PIECE, value.end)], np.uint8)
            total += int(np.count_nonzero(piece < 0x80))
        return total


def signed(value: int) -> int:
    """The two's complement reading of 64 bits."""
    return value - (1 << 64) if value >= 1 << 63 else value
