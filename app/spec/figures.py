"""Figures that reports are made of, and where they come from."""

from pydantic import Field

from app.spec.base import Frozen
from app.spec.devices import Provenance
from app.spec.metrics import METRICS, Metric, MetricName
from app.spec.outcome import Outcome, outcome_of


class MetricChange(Frozen):
    """One metric on the test rows. `resolution` is the smallest difference that `rows` rows can show (1/rows)."""

    metric: MetricName
    before: float
    after: float
    rows: int
    resolution: float | None = Field(None, description="None where the metric is continuous.")
    drop: float = Field(description="What was lost: before - after where higher is better, else after - before.")
    drop_low: float = Field(description="95 % interval of the drop, from the paired rows.")
    drop_high: float
    rows_needed: int | None = Field(
        None,
        description="About how many rows like these would show or exclude a loss that no gain excuses; None: these do, "
        "or it is not known.",
    )
    chance: float | None = Field(
        None, description="What always giving the most frequent label reaches; None where the metric has no such level."
    )
    before_low: float | None = Field(None, description="95 % interval of `before`; None: as for `chance`.")
    provenance: Provenance = "measured"

    @property
    def kind(self) -> Metric:
        """What the metric says of itself."""
        return METRICS[self.metric]

    @property
    def outcome(self) -> Outcome:
        """Whether the rows resolve the drop."""
        return outcome_of(-self.drop_high, -self.drop_low)


class Distribution(Frozen):
    """Latency of one model, in milliseconds."""

    runs: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    quantiles_ms: tuple[float, ...] = Field(
        description="Quantiles 0 %, 1 %, ... 100 %.", min_length=101, max_length=101
    )
