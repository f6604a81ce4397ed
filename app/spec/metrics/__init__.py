"""Metrics of the contract, one file per kind; `worker.engine.measure.metrics` has their computation."""

from app.spec.metrics.base import Metric, Obstacle
from app.spec.metrics.table import DEFAULT_METRICS, METRICS, MetricName
from app.spec.metrics.top_k import TOP1

__all__ = ["DEFAULT_METRICS", "METRICS", "TOP1", "Metric", "MetricName", "Obstacle"]
