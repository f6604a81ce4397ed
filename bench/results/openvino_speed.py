"""The same files under OpenVINO, in turns."""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 10
MOST_RUNS = 300


def speedups(before: Path, after: Path, batches: tuple[int, ...], budget_s: float) -> dict[str, float]:
    """Ratio of the medians at each batch size, one thread, float32 where the file does not say int8."""
    return {
        f"OpenVINO, batch {size}": _speedup(_compiled(before), _compiled(after), size, budget_s) for size in batches
    }


def _compiled(path: Path) -> Any:
    import openvino  # of the extra `bench`: the page's recipes and tables are read and tested without it

    # On CPUs with AMX, OpenVINO runs float32 files in bfloat16 unless it is told not to.
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    return openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()


def _speedup(before: Any, after: Any, size: int, budget_s: float) -> float:
    shapes = [
        [size, *(int(axis) for axis in entry.get_partial_shape()[1:].to_shape())] for entry in before.model_inputs
    ]
    feeds = [np.random.default_rng(0).random(shape, np.float32) for shape in shapes]
    times: tuple[list[float], list[float]] = ([], [])
    ends = time.monotonic() + budget_s
    for run in range(WARM_UP + MOST_RUNS):
        for request, taken in zip((before, after), times, strict=True):
            started = time.perf_counter()
            request.infer(feeds)
            if run >= WARM_UP:
                taken.append(time.perf_counter() - started)
        if time.monotonic() > ends and run >= 2 * WARM_UP:
            break
    return statistics.median(times[0]) / statistics.median(times[1])
