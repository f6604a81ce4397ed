"""The rooms of `worker.engine`, its floors, and the arrows between them.

The floors are written once, as import-linter's contract in pyproject.toml. That holds them for what is imported
directly and through others; here they are counted and shown.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.house.imports import REPOSITORY, Graph

ENGINE = "worker.engine"


class Arrow(NamedTuple):
    """One import that leaves a room."""

    importer: str
    imported: str


def floors(pyproject: Path = REPOSITORY / "pyproject.toml") -> list[tuple[str, ...]]:
    """The rooms of each floor of the engine, the highest first."""
    contracts = tomllib.loads(pyproject.read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract.get("containers") == [ENGINE]]
    return [tuple(room.strip() for room in layer.split("|")) for layer in layers]


def room_of(module: str) -> str | None:
    """The folder or file directly in the engine that a module belongs to; None outside of it."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ENGINE.split(".") and len(parts) > 2 else None


def arrows(graph: Graph) -> list[Arrow]:
    """Every import from one room of the engine to another."""
    pairs = (Arrow(importer, imported) for importer in sorted(graph) for imported in sorted(graph[importer]))
    return [pair for pair in pairs if _crosses(pair)]


def arrows_that_run_upward(graph: Graph, floors: Sequence[Sequence[str]]) -> list[Arrow]:
    """The imports of a room that stands as high or higher; KeyError for a room that stands on no floor."""
    height = {room: -depth for depth, rooms in enumerate(floors) for room in rooms}
    return [
        arrow
        for arrow in arrows(graph)
        if height[room_of(arrow.imported) or ""] >= height[room_of(arrow.importer) or ""]
    ]


def rooms_of(graph: Graph) -> dict[str, frozenset[str]]:
    """Which rooms each room of the engine imports."""
    rooms: dict[str, set[str]] = {room: set() for room in map(room_of, graph) if room}
    for arrow in arrows(graph):
        rooms[room_of(arrow.importer) or ""].add(room_of(arrow.imported) or "")
    return {room: frozenset(imported) for room, imported in sorted(rooms.items())}


def _crosses(pair: Arrow) -> bool:
    ends = room_of(pair.importer), room_of(pair.imported)
    return None not in ends and ends[0] != ends[1]
