"""One sweep over the sources of noise: every weight and every activation, rounded alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from worker.engine.context import Context
from worker.engine.measure.running import Run, runner
from worker.engine.onnx_graph.sessions import session
from worker.engine.quantization.sensitivity.reference import ReferenceOutputs

FLOAT = 32
"""The bits of a layer that is not quantized."""


@dataclass(frozen=True)
class QuantizableLayer:
    """A convolution or matrix product that may become integer, or any weight that may be stored in fewer bits."""

    name: str
    operator: str
    weight: str
    weights: int
    """Number of weights."""
    macs: int
    """Multiplications for one row that may become integer; sizes that vary count as 1."""


Choice = Mapping[QuantizableLayer, int]
"""The bits of each layer's weight: `FLOAT`, or what it is rounded to."""


class Divisible(Protocol):
    """A float graph whose weights and activations can be rounded one by one."""

    @property
    def layers(self) -> tuple[QuantizableLayer, ...]:
        """What a choice is to be made for, in graph order."""

    def values_in(self, choice: Choice) -> Mapping[str, int]:
        """The activations that are rounded where the layers have these bits, with their own bits."""

    def values_at(self, layer: QuantizableLayer, bits: int) -> Mapping[str, int]:
        """The activations that are rounded where this layer alone has these bits, with their own bits."""

    def rounding(self, weights: Choice, values: Mapping[str, int], path: Path) -> Path:
        """Write the graph with these layers' weights and these activations rounded to so many bits."""


@dataclass(frozen=True)
class Sweep:
    """Relative noise power at the outputs by source. Powers add up: the noise of any choice is a sum over them."""

    subject: Divisible
    weights: Mapping[tuple[QuantizableLayer, int], float]
    """Of a layer's weight, rounded to so many bits."""
    values: Mapping[tuple[str, int], float]
    """Of an activation, rounded to so many bits."""

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits that weights were rounded to, ascending."""
        return tuple(sorted({bits for _, bits in self.weights}))

    def alone(self, layer: QuantizableLayer, bits: int) -> float:
        """The relative noise power of quantizing one layer, with the activations it reads and makes."""
        return self.weights[layer, bits] + self._of_values(self.subject.values_at(layer, bits))

    def predicted(self, choice: Choice) -> float:
        """The relative noise power where each layer has the bits of the choice."""
        weights = sum(self.weights[layer, bits] for layer, bits in choice.items() if bits != FLOAT)
        return weights + self._of_values(self.subject.values_in(choice))

    def _of_values(self, rounded: Mapping[str, int]) -> float:
        return sum(self.values[source] for source in rounded.items())


def sweep(subject: Divisible, reference_outputs: ReferenceOutputs, widths: Collection[int], context: Context) -> Sweep:
    """Measure each source alone: the weights with every width of `widths` (bits), and every activation."""
    pairs = [(layer, bits) for layer in subject.layers for bits in widths]
    uniform = [subject.values_in(dict.fromkeys(subject.layers, bits)) for bits in widths]
    values = dict.fromkeys(
        source for rounded in uniform for source in (*rounded.items(), *((activation, 8) for activation in rounded))
    )
    file = context.scratch / "rounded.onnx"
    total, done = len(values) + len(pairs), 0

    def noise(weights: Choice, rounded: Mapping[str, int]) -> float:
        nonlocal done
        reading = reference_outputs.read(graph_runner(subject.rounding(weights, rounded, file), context))
        done += 1
        context.progress.advance(done / total, f"{done} of {total} sources of noise")
        return reading.noise

    return Sweep(
        subject,
        {(layer, bits): noise({layer: bits}, {}) for layer, bits in pairs},
        {(name, bits): noise({}, {name: bits}) for name, bits in values},
    )


def graph_runner(graph: Path, context: Context) -> Run:
    """An ONNX file as a function from inputs to outputs by name, node by node.

    Optimized, the runtime would do what is not asked for: between two rounded activations it rounds a float weight,
    too, with one scale for all channels (digits with the first two rounded: 44.3 dB instead of 55.2), and kernels
    without VNNI saturate.
    """
    return runner(session(graph, context.threads, optimize=False))
