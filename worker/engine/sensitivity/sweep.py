"""One sweep over the sources of noise: every weight and every activation, rounded alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.engine.measure.running import Run, runner
from worker.engine.passes import Context
from worker.engine.sensitivity.subject import Layer, Subject
from worker.engine.sensitivity.yardstick import Yardstick
from worker.engine.sessions import session

FLOAT = 32
"""The bits of a layer that is not quantized."""

Choice = Mapping[Layer, int]
"""The bits of each layer's weight: `FLOAT`, or what it is rounded to."""


@dataclass(frozen=True)
class Sweep:
    """Relative noise power at the outputs by source. Powers add up: the noise of any choice is a sum over them."""

    subject: Subject
    weights: Mapping[tuple[Layer, int], float]
    """Of a layer's weight, rounded to so many bits."""
    values: Mapping[str, float]
    """Of an activation, rounded to 8 bits."""

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits that weights were rounded to, ascending."""
        return tuple(sorted({bits for _, bits in self.weights}))

    def alone(self, layer: Layer, bits: int) -> float:
        """The relative noise power of quantizing one layer, with the activations it reads and makes."""
        return self.weights[layer, bits] + sum(self.values[name] for name in self.subject.values_of([layer.name]))

    def predicted(self, choice: Choice) -> float:
        """The relative noise power where each layer has the bits of the choice, activations around them 8."""
        floating = [layer.name for layer, bits in choice.items() if bits == FLOAT]
        values = self.subject.values_of(self.subject.nodes_without(floating))
        return sum(self.values[name] for name in values) + sum(
            self.weights[layer, bits] for layer, bits in choice.items() if bits != FLOAT
        )


def sweep(subject: Subject, yardstick: Yardstick, widths: Collection[int], context: Context) -> Sweep:
    """Measure each source alone: the weights with every width of `widths` (bits), the activations with 8 bits."""
    values = subject.values_of(subject.nodes_without(()))
    pairs = [(layer, bits) for layer in subject.layers for bits in widths]
    file = context.scratch / "rounded.onnx"
    total, done = len(values) + len(pairs), 0

    def noise(weights: Choice, rounded: Collection[str]) -> float:
        nonlocal done
        reading = yardstick.read(graph_runner(subject.rounding(weights, rounded, file), context))
        done += 1
        context.progress.advance(done / total, f"{done} of {total} sources of noise")
        return reading.noise

    return Sweep(
        subject,
        {(layer, bits): noise({layer: bits}, ()) for layer, bits in pairs},
        {name: noise({}, [name]) for name in values},
    )


def graph_runner(graph: Path, context: Context) -> Run:
    """An ONNX file as a function from inputs to outputs by name, node by node.

    Optimized, the runtime would do what is not asked for: between two rounded activations it rounds a float weight,
    too, with one scale for all channels (digits with the first two rounded: 44.3 dB instead of 55.2), and kernels
    without VNNI saturate.
    """
    return runner(session(graph, context.threads, optimize=False))
