"""Two models timed in one process, taking turns. Shared with the engine, which times ONNX Runtime by the same rules."""

import gc
from collections.abc import Callable
from time import perf_counter, perf_counter_ns

import numpy as np

Once = Callable[[], object]

WARM_UP_SHARE = 0.2
"""Of the budget, at most."""
WARM_UP_WINDOW = 5
WARM_UP_TOLERANCE = 0.05
"""Warm when the median of the last five turns is within 5 % of that of the five before."""
WARM_UP_TURNS = 100
FEWEST_TURNS = 6
"""Measured even where the budget is spent: the range of fewer pairs is no interval of 95 %."""


def take_turns(once: tuple[Once, Once], *, runs: int, budget_s: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nanoseconds of each run, float64 `[runs]`, of both; position i of both was measured side by side.

    Each turn runs A B B A or B A A B, drawn at random, so that neither model gains from its place. Both are warmed
    up before. At most `runs` of each, and no new turn after `budget_s` seconds. Raises what the models raise.
    """
    rng = np.random.default_rng(seed)
    started = perf_counter()
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle of a run would be counted as the model's time
    try:
        _warm_up(once, started + budget_s * WARM_UP_SHARE)
        return _timed_turns(once, runs, started + budget_s, rng)
    finally:
        if collecting:
            gc.enable()


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


def _timed_turns(
    once: tuple[Once, Once], runs: int, deadline: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
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
