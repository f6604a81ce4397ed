"""Clamps that stay, since codes alone would not do what they do."""

from collections.abc import Mapping

from onnx import GraphProto

from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.plan.clamps import CLAMPS, bounds_of
from worker.engine.plan.plan import Range

STEPS = 255
"""Of 8-bit codes."""


def kept_clamps(graph: GraphProto, ranges: Mapping[str, Range]) -> frozenset[str]:
    """Names of the clamps whose place saturation cannot take: codes over these ranges reach beyond the bounds.

    So is one whose input others see, too, be they nodes, a control-flow body or who reads the graph's outputs: the
    quantizer, which takes the range behind the clamp for its input, looks at nodes alone.
    """
    index = GraphIndex(graph)
    return frozenset(
        node.name
        for node in graph.node
        if node.op_type in CLAMPS
        and not (
            index.only_reader(node.input[0]) is not None
            and _end_within(ranges.get(node.output[0]), bounds_of(node, index.constants))
        )
    )


def _end_within(covered: Range | None, bounds: tuple[float, float] | None) -> bool:
    """Whether the codes of a range reach no further than the bounds, but for half a step: zero is a whole code."""
    if bounds is None or covered is None:
        return False
    half_a_step = (covered.high - covered.low) / STEPS / 2
    return bounds[0] <= covered.low + half_a_step and covered.high - half_a_step <= bounds[1]
