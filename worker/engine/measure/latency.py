"""Latency: both models in one process, taking turns."""

import gc
from collections.abc import Callable
from time import perf_counter, perf_counter_ns

import numpy as np

from app.spec.evaluate import Latency
from app.spec.report import Distribution, LatencyChange
from worker.engine.measure.errors import ModelRunFailed
from worker.engine.measure.machine import load_average
from worker.engine.measure.noise import ratio_of_medians
from worker.engine.measure.running import Arrays, Session

Once = Callable[[], None]

WARM_UP_SHARE = 0.2
"""Of the budget, at most."""
WARM_UP_WINDOW = 5
WARM_UP_TOLERANCE = 0.05
"""Warm when the median of the last five turns is within 5 % of that of the five before."""
WARM_UP_TURNS = 100
FEWEST_TURNS = 6
"""Measured even where the budget is spent: the range of fewer pairs is no interval of 95 %."""
NS_PER_MS = 1e6
PERCENT = np.linspace(0, 1, 101)


def measure_latency(sessions: tuple[Session, Session], feeds: Arrays, plan: Latency, seed: int) -> LatencyChange:
    """Time the original and the delivered model, in this order in `sessions`, on the rows of `feeds`.

    Inputs are bound to the sessions once and outputs are left with the runtime (`IOBinding`): the figures are
    the graph's alone, without the conversion of arrays, which a caller in another language does not pay.
    Each turn runs A B B A or B A A B, drawn at random, so that neither model gains from its place.
    Raises `ModelRunFailed`.
    """
    rng = np.random.default_rng(seed)
    once = _bound(sessions[0], feeds), _bound(sessions[1], feeds)
    load_before = load_average()
    started = perf_counter()
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle of a run would be counted as the model's time
    try:
        _warm_up(once, started + plan.budget_s * WARM_UP_SHARE)
        before, after = _take_turns(once, plan.runs, started + plan.budget_s, rng)
    except Exception as error:
        raise ModelRunFailed(f"ONNX Runtime stopped while it was timed: {str(error)[:500]}") from error
    finally:
        if collecting:
            gc.enable()
    speedup, low, high = ratio_of_medians(before, after, rng)
    return LatencyChange(
        batch=max(len(rows) for rows in feeds.values() if rows.ndim),
        threads=plan.threads,
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


def _bound(session: Session, feeds: Arrays) -> Once:
    binding = session.io_binding()
    for node in session.get_inputs():
        if node.name not in feeds:
            raise ModelRunFailed(f"The data has no array for input {node.name!r}.")
        binding.bind_cpu_input(node.name, np.ascontiguousarray(feeds[node.name]))
    for node in session.get_outputs():
        binding.bind_output(node.name, "cpu")

    def once() -> None:
        session.run_with_iobinding(binding)

    return once


def _warm_up(once: tuple[Once, Once], deadline: float) -> None:
    """Run both until neither gets faster: first runs allocate memory, and the CPU's clock rises."""
    history: list[tuple[int, int]] = []
    while len(history) < WARM_UP_TURNS:
        history.append((_timed(once[0]), _timed(once[1])))
        if perf_counter() > deadline or _settled(np.array(history)):
            return


def _settled(history: np.ndarray) -> bool:
    if len(history) < 2 * WARM_UP_WINDOW:
        return False
    last = np.median(history[-WARM_UP_WINDOW:], axis=0)
    previous = np.median(history[-2 * WARM_UP_WINDOW : -WARM_UP_WINDOW], axis=0)
    return bool((np.abs(last / previous - 1) < WARM_UP_TOLERANCE).all())


def _take_turns(
    once: tuple[Once, Once], runs: int, deadline: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Nanoseconds of each run `[runs]` of both models; position i of both was measured side by side."""
    times: tuple[list[int], list[int]] = ([], [])
    while len(times[0]) < runs and (len(times[0]) < FEWEST_TURNS or perf_counter() < deadline):
        first = int(rng.integers(2))
        for which in (first, 1 - first, 1 - first, first):
            times[which].append(_timed(once[which]))
    return np.array(times[0][:runs], np.float64), np.array(times[1][:runs], np.float64)


def _timed(once: Once) -> int:
    start = perf_counter_ns()
    once()
    return perf_counter_ns() - start
