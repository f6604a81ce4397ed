"""A quantization plan: what a `quantize.*` step found out about the float model, before any target lowers it."""

from dataclasses import dataclass
from pathlib import Path

from app.spec.quantize import Observer


@dataclass(frozen=True)
class Range:
    """The values of a tensor that keep their own 8-bit code; what lies outside is clipped. `low <= 0 <= high`."""

    low: float
    high: float


@dataclass(frozen=True)
class StaticPlan:
    """8-bit weights and activations with fixed ranges."""

    graph: Path
    """The pre-processed float graph the names below belong to: shapes inferred, constants and batch norms folded."""
    ranges: dict[str, Range]
    """By tensor name: every activation the lowering may quantize."""
    observer: Observer
    samples: int
    """Calibration rows that were run."""
    nodes: tuple[str, ...]
    """Nodes to quantize, by name; a target may take fewer."""
    per_channel: bool


@dataclass(frozen=True)
class DynamicPlan:
    """8-bit weights; activation ranges are found while the model runs."""

    graph: Path
    """The pre-processed float graph."""
    nodes: tuple[str, ...]
    """Nodes to quantize, by name."""
    per_channel: bool


Plan = StaticPlan | DynamicPlan
