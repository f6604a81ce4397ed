"""Pare's artifact against the library's.

The same network and pictures through Pare's static quantization for profile `x86` and through ONNX Runtime's
`quantize_static` as its documentation advises (preparation first, QDQ, unsigned activations, signed weights for each
channel, min/max). Both files are timed in one process, taking turns, at batch 1 and one thread; signal to noise is that
of the logits on pictures neither has seen.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from app.spec.evaluate import Latency
from app.spec.quantize import QuantizeStatic
from bench.harness.figures import Figure, at_most
from bench.harness.reader import RowReader
from bench.harness.scene import Scene
from bench.harness.subjects import INPUT, export_network, pictures
from tests.engine.orders import changed, lowered, outputs_of, rows_of, sqnr_db
from worker.engine.measure.latency import measure_latency
from worker.engine.sessions import session

NETWORKS = ("resnet50", "resnet18")
NOT_SLOWER = 1.10
RUNS, BUDGET_SECONDS = 200, 45


def tell(scene: Scene) -> list[Figure]:
    """Measure it."""
    rows = []
    for name in scene.pick(NETWORKS, NETWORKS[1:]):
        scene.say(f"quantizing {name} twice")
        folder = scene.folder / name
        folder.mkdir()
        model = export_network(name, folder / "model.onnx")
        plan = Latency(runs=scene.pick(RUNS, 20), budget_s=BUDGET_SECONDS)
        rows += compared(name, model, pictures(scene.pick(32, 4), 1), pictures(16, 2), folder, plan)
    return rows


def compared(
    name: str, model: Path, calibration: np.ndarray, test: np.ndarray, folder: Path, plan: Latency
) -> list[Figure]:
    """Rows for one network; `calibration` and `test` are rows of its input `image`."""
    ours, our_seconds = _cpu(lambda: by_pare(model, calibration, folder))
    theirs, their_seconds = _cpu(lambda: by_library(model, calibration, folder))
    pair = session(theirs, 1), session(ours, 1)
    faster = measure_latency(pair, {INPUT: test[:1]}, plan, seed=0)
    (exact,) = outputs_of(model, {INPUT: test})
    noise = {who: sqnr_db(exact, outputs_of(file, {INPUT: test})[0]) for who, file in (("o", ours), ("t", theirs))}
    return [
        Figure(f"{name}: latency, Pare / ONNX Runtime", 1 / faster.speedup, "", at_most(NOT_SLOWER),
               1 / faster.speedup_high, 1 / faster.speedup_low),
        Figure(f"{name}: size, Pare / ONNX Runtime", ours.stat().st_size / theirs.stat().st_size),
        Figure(f"{name}: signal to noise, Pare", noise["o"], "dB"),
        Figure(f"{name}: signal to noise, ONNX Runtime", noise["t"], "dB"),
        Figure(f"{name}: CPU time to quantize, Pare / ONNX Runtime", our_seconds / their_seconds),
    ]  # fmt: skip


def by_pare(model: Path, calibration: np.ndarray, folder: Path) -> Path:
    """The artifact a job would deliver."""
    rows = rows_of(folder, **{INPUT: calibration})
    return lowered(changed(QuantizeStatic(), model, folder, rows).model, "x86", folder)


def by_library(model: Path, calibration: np.ndarray, folder: Path) -> Path:
    """The library's own file."""
    prepared, quantized = folder / "prepared.onnx", folder / "library.onnx"
    quant_pre_process(model, prepared)
    quantize_static(
        prepared, quantized, RowReader({INPUT: calibration}),
        quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        per_channel=True, calibrate_method=CalibrationMethod.MinMax,
    )  # fmt: skip
    return quantized


def _cpu(make: Callable[[], Path]) -> tuple[Path, float]:
    started = time.process_time()  # of all threads: the library's calibrater takes every core
    return make(), time.process_time() - started
