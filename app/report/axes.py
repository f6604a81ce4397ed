"""What the axes of all pictures share: round steps, ticks, and numbers for bars whose names are too long."""

import math
from dataclasses import dataclass
from typing import Literal

MOST_TICKS = 6
MOST_PLACES = 8
NICE_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
PLACE_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 250, 1000)
EDGE = 0.03
"""Share of the width: labels nearer to an end are anchored inwards."""

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Span:
    """A horizontal stretch, in percent."""

    x: float
    width: float


@dataclass(frozen=True)
class Tick:
    """A place on an axis with its label; the outermost labels are anchored inwards."""

    x: float
    label: str
    anchor: Anchor = "middle"


def round_step(raw: float) -> float:
    """The smallest round number that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * nice for nice in NICE_STEPS if power * nice >= raw * (1 - 1e-9))


def anchor(share: float) -> Anchor:
    """How a label at this share of the width is anchored."""
    if share < EDGE:
        return "start"
    return "end" if share > 1 - EDGE else "middle"


def place_ticks(count: int, slot: float) -> tuple[Tick, ...]:
    """The numbers of bars, from 1, few enough to be read; each bar has `slot` percent of the width."""
    step = next(step for step in PLACE_STEPS if count / step <= MOST_PLACES)
    shown = [1, *(place for place in range(step, count + 1, step) if place > 1 + step / 2)] if count else []
    return tuple(Tick(round((place - 0.5) * slot, 3), str(place)) for place in shown)
