"""A quantization plan: what a `quantize.*` step found out about the float model, before any target lowers it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.spec.quantize import Observer
from worker.engine.plan.grids import CodedWeight
from worker.engine.plan.sharing import SharedWeight


@dataclass(frozen=True)
class Range:
    """The values of a tensor that keep their own 8-bit code; what lies outside is clipped. `low <= 0 <= high`."""

    low: float
    high: float


@dataclass(frozen=True)
class Grid:
    """The codes that training gave a tensor: value = scale * (code - zero_point), code in `low` ... `high`."""

    scales: tuple[float, ...]
    """float32 values: one for the whole tensor, or one for each channel along `axis`."""
    low: int
    high: int
    zero_point: int = 0
    axis: int | None = None

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return (self.high - self.low).bit_length()

    def range(self) -> Range:
        """What the codes cover. For one scale."""
        (scale,) = self.scales
        return Range(scale * (self.low - self.zero_point), scale * (self.high - self.zero_point))


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
    grids: Mapping[str, Grid] = field(default_factory=dict)
    """By name of an activation or a weight: a target keeps these codes if it can, else it works from the range."""
    input_means: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What meets each weight on average, by node name, float64 `[groups, inputs of a group, kernel]`: biases are
    corrected by it for what rounding the weights does. Empty: they are not."""


@dataclass(frozen=True)
class DynamicPlan:
    """8-bit weights; activation ranges are found while the model runs."""

    graph: Path
    """The pre-processed float graph."""
    nodes: tuple[str, ...]
    """Nodes to quantize, by name."""
    per_channel: bool


@dataclass(frozen=True)
class WeightsPlan:
    """Weights stored in fewer bits; activations stay float32."""

    graph: Path
    """The pre-processed float graph."""
    weights: Mapping[str, CodedWeight]
    """By name of the initializer."""


@dataclass(frozen=True)
class SharedPlan:
    """Weights stored as indices into tables of a few values; everything is computed in float32."""

    graph: Path
    """The pre-processed float graph."""
    weights: Mapping[str, SharedWeight]
    """By name of the initializer."""


Plan = StaticPlan | DynamicPlan | WeightsPlan | SharedPlan
