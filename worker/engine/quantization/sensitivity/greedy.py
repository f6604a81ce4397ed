"""Which layers get how many bits, so that the outputs keep a signal-to-noise ratio at the least cost."""

from collections.abc import Iterator
from dataclasses import dataclass

from worker.engine.quantization.sensitivity.sweep import FLOAT, Choice, QuantizableLayer, Sweep

FLOAT_BITS = 32


@dataclass(frozen=True)
class Stage:
    """A choice on the way from the smallest model to the float one."""

    choice: Choice
    noise: float
    """Predicted, relative to the signal."""


def stages(sweep: Sweep, start: Choice) -> Iterator[Stage]:
    """Yield choices of ever less noise, from `start` to all layers in floating point.

    Each step widens the one layer that takes away the most noise for what it costs, which is the share of the model's
    bytes that come back plus, where a layer returns to floating point, its share of the multiplications.
    """
    choice = dict(start)
    noise = sweep.predicted(choice)
    yield Stage(dict(choice), noise)
    while any(bits != FLOAT for bits in choice.values()):
        moves = [
            (layer, wider, sweep.predicted({**choice, layer: wider}))
            for layer, bits in choice.items()
            for wider in (*sweep.widths, FLOAT)
            if wider > bits
        ]
        layer, wider, noise = max(
            moves, key=lambda move: (noise - move[2]) / cost(move[0], choice[move[0]], move[1], tuple(choice))
        )
        choice[layer] = wider
        yield Stage(dict(choice), noise)


def cost(layer: QuantizableLayer, bits: int, wider: int, layers: tuple[QuantizableLayer, ...]) -> float:
    """Share of all weights' float bytes that a layer takes more, plus its share of products that turn to floats."""
    weights, macs = sum(each.weights for each in layers), sum(each.macs for each in layers)
    stored = layer.weights / weights * (wider - bits) / FLOAT_BITS
    return stored + (layer.macs / macs if wider == FLOAT and macs else 0.0)
