"""Latency: both models in one process, taking turns."""

import numpy as np

from app.spec.evaluate import Latency
from app.spec.figures import Distribution
from app.spec.report import LatencyChange
from worker.engine.measure.intervals import ratio_of_medians
from worker.engine.measure.machine import load_average
from worker.engine.measure.running import Arrays
from worker.engine.measure.runtime import Runtime

NS_PER_MS = 1e6
PERCENT = np.linspace(0, 1, 101)


def measure_latency(runtime: Runtime, feeds: Arrays, settings: Latency, seed: int) -> LatencyChange:
    """Time the original and the delivered model on the rows of `feeds`. Raises `ModelRunFailed`, toolchains' errors."""
    load_before = load_average()
    before, after = runtime.take_turns(feeds, settings, seed)
    speedup, low, high = ratio_of_medians(before, after, np.random.default_rng(seed))
    return LatencyChange(
        batch=max(len(rows) for rows in feeds.values() if rows.ndim),
        threads=settings.threads,
        before=distribution(before),
        after=distribution(after),
        speedup=speedup,
        speedup_low=low,
        speedup_high=high,
        load_average=(load_before, load_average()),
    )


def distribution(nanoseconds: np.ndarray) -> Distribution:
    """Summarise run times `[runs]`."""
    times = nanoseconds / NS_PER_MS
    quantiles = [float(value) for value in np.quantile(times, PERCENT)]
    return Distribution(
        runs=len(times),
        mean_ms=float(times.mean()),
        p50_ms=quantiles[50],
        p90_ms=quantiles[90],
        p99_ms=quantiles[99],
        quantiles_ms=tuple(quantiles),
    )
