"""What a hostile file is: its content, and every answer to it that is right."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Hostile:
    """One file. `codes`: what may come of it; "ok" where it is harmless, `worker.*` where only a job can tell."""

    name: str
    content: bytes
    kind: Literal["model", "dataset"]
    codes: frozenset[str]
    architecture: str | None = None
    """Declared with it, as JSON."""


def model(name: str, content: bytes, codes: frozenset[str] | set[str]) -> Hostile:
    return Hostile(name, content, "model", frozenset(codes))


def dataset(name: str, content: bytes, codes: frozenset[str] | set[str]) -> Hostile:
    return Hostile(name, content, "dataset", frozenset(codes))


def weights(name: str, content: bytes, codes: frozenset[str] | set[str], architecture: str) -> Hostile:
    return Hostile(name, content, "model", frozenset(codes), architecture)
