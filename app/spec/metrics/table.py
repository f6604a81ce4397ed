"""Every metric that a job may ask for, by name."""

from typing import Annotated

from app.spec.choices import NameIn
from app.spec.metrics.base import Metric
from app.spec.metrics.mean_squared_error import MeanSquaredError
from app.spec.metrics.top_k import TOP1, TopK

METRICS: dict[str, Metric] = {metric.name: metric for metric in (TOP1, TopK(5), MeanSquaredError())}

DEFAULT_METRICS: tuple[str, ...] = (TOP1.name,)
"""What is measured where a job does not say."""

MetricName = Annotated[str, NameIn(METRICS)]
