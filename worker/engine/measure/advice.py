"""Why an artifact is slower, larger, no faster or less exact than hoped, and what to try: from the graph that ran."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.spec.report import LatencyChange, LayerError, Placement, Size
from app.spec.units import counted

CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
MOVERS = frozenset(
    {
        *("Cast", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad"),
        *("Range", "ReorderInput", "ReorderOutput", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose"),
        "Unsqueeze",
    }
)
"""Operators that only move values: integers pass through them as fast as floats."""
NAMED = 3
"""Operators or layers that a sentence names."""
WEAK_DB = 20.0
"""A layer below this has lost a percent of its power."""


@dataclass(frozen=True)
class Outcome:
    """What advice is given on."""

    steps: tuple[str, ...]
    """Types of the job's steps."""
    placement: Placement
    size: Size
    latency: tuple[LatencyChange, ...]
    layers: tuple[LayerError, ...]
    lost_quality: bool
    """Whether quality was lost, or is not proven to be kept."""


def advice(outcome: Outcome) -> tuple[str, ...]:
    """Sentences with a cause and a way out each; none where the result needs none."""
    quantized = [step for step in outcome.steps if step.startswith("quantize.")]
    if not quantized:
        return ()
    no_faster = bool(outcome.latency) and not any(change.outcome == "gain" for change in outcome.latency)
    return (
        *(_speed(outcome.placement, quantized) if no_faster else ()),
        *(_size(quantized) if outcome.size.outcome == "loss" else ()),
        *(_quality(outcome.layers, quantized) if outcome.lost_quality else ()),
    )


def _speed(placement: Placement, quantized: Sequence[str]) -> Iterator[str]:
    conversions = sum(placement.operators.get(name, 0) for name in CONVERSIONS)
    floats = {name: count for name, count in placement.operators.items() if _in_floats(name)}
    if not placement.integer:
        if "quantize.weights" in quantized:
            yield (
                "Not faster, because weights alone are quantized: the runtime unpacks them when it loads the model and "
                'computes in floats as before. Try "quantize.static" (convolutions) or "quantize.dynamic" (matrix '
                "products) for speed; this form saves bytes."
            )
        else:
            yield (
                f"Not faster, because no layer ran on an integer kernel: {_named(placement.operators)} computed in "
                'floats. Try another profile of the target, or "quantize.weights" for size alone.'
            )
        return
    if placement.fallback:
        names = ", ".join(f'"{name}"' for name in list(placement.fallback)[:NAMED])
        yield (
            f"Not faster, because the runtime has no integer kernel for {_named(placement.fallback)}: they computed in "
            f'floats between conversions. Try `skip` with "operators": [{names}], or another profile.'
        )
    if conversions and floats:
        yield (
            f"Not faster, because {counted(conversions, 'conversion')} between integers and floats ran around "
            f"operators that stayed in floats: {_named(floats)}. "
            + (
                'Try "quantize.dynamic", which converts around matrix products alone, or `skip` with the layers beside '
                "these operators."
                if "quantize.static" in quantized or "quantize.aware" in quantized
                else 'Try "quantize.static", which keeps integers between the layers.'
            )
        )
    elif not placement.fallback:
        yield (
            "Not faster, though every layer ran on integers: the layers are so small that calling them takes most of "
            "the time. Try a larger `evaluate.latency.batch`, or prune instead."
        )


def _size(quantized: Sequence[str]) -> Iterator[str]:
    yield (
        "Larger, because scales, zero points and conversions take more bytes than the narrower weights save: the model "
        "has few weights. "
        + (
            'Try "quantize.weights" without `block`, or pruning.'
            if "quantize.weights" in quantized
            else 'Try "quantize.weights", which stores no ranges of activations, or pruning.'
        )
    )


def _quality(layers: Sequence[LayerError], quantized: Sequence[str]) -> Iterator[str]:
    weak = [layer for layer in layers if layer.sqnr_db is not None and layer.sqnr_db < WEAK_DB]
    worst = sorted(_falls(weak, layers), key=lambda pair: -pair[1])[:NAMED]
    ways = ", ".join(f'"{layer.name}"' for layer, _ in worst)
    if worst:
        yield (
            f"The error grows most at {ways}: try `skip` with "
            f'"nodes": [{ways}], `skip`: "auto", or "quantize.aware", which trains with the rounding.'
        )
    elif "quantize.weights" in quantized:
        yield 'Try wider weights ("int8"), a smaller `block`, or `method` "gptq" with calibration rows.'


def _falls(weak: Sequence[LayerError], layers: Sequence[LayerError]) -> Iterator[tuple[LayerError, float]]:
    """Each weak layer with the decibels that it has less than the one before it."""
    before: Mapping[str, float | None] = {layer.name: previous.sqnr_db for previous, layer in pairwise(layers)}
    for layer in weak:
        previous = before.get(layer.name)
        yield layer, (60.0 if previous is None else previous) - (layer.sqnr_db or 0.0)


def _in_floats(operator: str) -> bool:
    """Whether an operator of the optimized graph computes on floats, and not on integers or places alone."""
    return not (operator.startswith(("QLinear", "Q", "DynamicQuantize")) or "Integer" in operator) and (
        operator not in MOVERS and operator not in CONVERSIONS
    )


def _named(operators: Mapping[str, int]) -> str:
    """The most frequent operators with their number."""
    most = sorted(((count, name) for name, count in operators.items() if _in_floats(name)), reverse=True)
    return ", ".join(f"{count} {name}" for count, name in most[:NAMED]) or "its operators"
