"""Figures that reports are made of, and where they come from."""

from pydantic import Field

from app.spec.base import Frozen
from app.spec.devices import Provenance
from app.spec.metrics import METRICS, Metric, MetricName


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
    provenance: Provenance = "measured"

    @property
    def kind(self) -> Metric:
        """What the metric says of itself."""
        return METRICS[self.metric]


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
