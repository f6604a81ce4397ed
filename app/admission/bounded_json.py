"""JSON whose cost is known before it is parsed, and access to it that reports what is not as expected."""

import json
from collections.abc import Callable
from typing import Any, NoReturn

from app.admission.errors import Broken, TooComplex
from app.admission.zipped import Archive, Member

MAX_BYTES = 48 << 20
MAX_OBJECTS = 800_000
"""Braces and brackets, each; resnet18 has 1,500, a ViT-B/16 17,000 objects. Python needs 232 bytes for one."""
MAX_COMMAS = 3_000_000


def parse(archive: Archive, member: Member) -> Any:
    """The JSON in a member; raises `Broken` if it is none, `TooComplex` if it is too large or too deep."""
    if member.size > MAX_BYTES:
        raise TooComplex(f"{member.name!r} has {member.size} bytes, {MAX_BYTES} are allowed.")
    text = archive.read(member, MAX_BYTES)
    if max(text.count(b"{"), text.count(b"[")) > MAX_OBJECTS or text.count(b",") > MAX_COMMAS:
        raise TooComplex(f"{member.name!r} describes too many things.")
    return loads(text)


def loads(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse; no NaN, no infinity; raises `Broken` or, where it nests too deep, `TooComplex`.

    `pairs` makes an object of its names and values, in their order, where a name may not occur twice.
    """
    try:
        return json.loads(text, parse_constant=_not_a_number, object_pairs_hook=pairs)
    except RecursionError as error:
        raise TooComplex("The model's description nests too deep.") from error
    except ValueError as error:
        raise Broken("the description of the model is not JSON") from error


def _not_a_number(constant: str) -> NoReturn:
    raise ValueError(constant)


def as_dict(value: object) -> dict[str, Any]:
    """`value`, or `Broken` if it is no object."""
    if not isinstance(value, dict):
        raise Broken("the description of the model lacks an object")
    return value


def as_list(value: object) -> list[Any]:
    """`value`, or `Broken` if it is no array."""
    if not isinstance(value, list):
        raise Broken("the description of the model lacks a list")
    return value


def as_text(value: object) -> str:
    """`value`, or `Broken` if it is no string."""
    if not isinstance(value, str):
        raise Broken("the description of the model lacks a name")
    return value


def as_int(value: object) -> int:
    """`value`, or `Broken` if it is no integer."""
    if type(value) is not int:
        raise Broken("the description of the model lacks a number")
    return value
