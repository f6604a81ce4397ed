"""Ids: a prefix that says what it names and a version 7 UUID (RFC 9562), so that newer ids sort last."""

import os
import time
from typing import Literal
from uuid import UUID

from app.errors import PareError

Prefix = Literal["mdl", "ds", "job", "art", "upl", "agt", "tsk"]


class NotFound(PareError):
    """There is no such thing, or it belongs to somebody else, or it was deleted."""

    code, status = "resource.not_found", 404
    remedy = "Check the id, or list what there is."


def new_id() -> UUID:
    """Make a version 7 UUID: 48 bits of milliseconds since 1970, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    bits = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def public(prefix: Prefix, uuid: UUID) -> str:
    """Write an id as clients see it."""
    return f"{prefix}_{uuid.hex}"


def parse(prefix: Prefix, text: str) -> UUID:
    """Read an id that a client sent; anything that is not one names nothing: `NotFound`."""
    kind, _, digits = text.partition("_")
    if kind != prefix or len(digits) != 32 or not set(digits) <= set("0123456789abcdef"):
        raise NotFound(f"There is no such {NAMES[prefix]}.")
    return UUID(hex=digits)


NAMES: dict[Prefix, str] = {
    "mdl": "model",
    "ds": "data set",
    "job": "job",
    "art": "artifact",
    "upl": "upload",
    "agt": "agent",
    "tsk": "task",
}
