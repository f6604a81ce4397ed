"""Which layers get how many bits, so that the outputs keep a signal-to-noise ratio at the least cost."""

from collections.abc import Iterator
from dataclasses import dataclass

from worker.engine.sensitivity.subject import Layer
from worker.engine.sensitivity.sweep import FLOAT, Choice, Sweep

FLOAT_BITS = 32
INTEGER_BITS = 8


@dataclass(frozen=True)
class Stage:
    """A choice on the way from the smallest model to the float one."""

    choice: Choice
    noise: float
    """Predicted, relative to the signal."""


def stages(sweep: Sweep, narrow: int | None = None) -> Iterator[Stage]:
    """Yield choices of ever less noise, from all layers at 8 bits (at `narrow` bits if given) to all in floating point.

    Each step widens the one layer that takes away the most noise for what it costs, which is the share of the model's
    bytes that come back plus, where a layer returns to floating point, its share of the multiplications.
    """
    layers = sweep.subject.layers
    choice = dict.fromkeys(layers, narrow or INTEGER_BITS)
    noise = sweep.predicted(choice)
    yield Stage(dict(choice), noise)
    while any(bits != FLOAT for bits in choice.values()):
        moves = [
            (layer, wider, sweep.predicted({**choice, layer: wider}))
            for layer, bits in choice.items()
            for wider in ((INTEGER_BITS, FLOAT) if bits < INTEGER_BITS else (FLOAT,))
            if bits != FLOAT
        ]
        layer, wider, noise = max(
            moves, key=lambda move: (noise - move[2]) / cost(move[0], choice[move[0]], move[1], layers)
        )
        choice[layer] = wider
        yield Stage(dict(choice), noise)


def cost(layer: Layer, bits: int, wider: int, layers: tuple[Layer, ...]) -> float:
    """Share of all weights' float bytes that a layer takes more, plus its share of products that turn to floats."""
    weights, macs = sum(one.weights for one in layers), sum(one.macs for one in layers)
    stored = layer.weights / weights * (wider - bits) / FLOAT_BITS
    return stored + (layer.macs / macs if wider == FLOAT else 0.0)
