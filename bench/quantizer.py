"""Pare's artifact against the fastest of the library's.

The same network and pictures through Pare's static quantization for profile `x86` and through ONNX Runtime's own
quantizer in every way that may be fast on x86: QDQ and QOperator format; activations and weights u8 and s8, u8 and u8,
s8 and s8; weight scales for each channel and for the whole weight; all 8 bits and 7 (`reduce_range`). Its documentation
advises the first, and what it costs and loses is told, too. Preparation and min/max calibration are done once for all
of them. Every file takes turns with Pare's in one process, at batch 1 and one thread: a short round with all finds the
three fastest, a long one decides. Signal to noise is that of the logits on pictures neither has seen.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import onnx
from onnxruntime.quantization import QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, create_calibrator
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from app.spec.evaluate import Latency
from app.spec.quantize import QuantizeStatic
from app.spec.report import LatencyChange
from bench.harness.figures import Bound, Figure, at_most
from bench.harness.reader import RowReader
from bench.harness.scene import Scene
from bench.harness.subjects import INPUT, export_network, pictures
from tests.support.engine.orders import changed, lowered, outputs_of, rows_of, sqnr_db
from worker.engine.measure.latency import measure_latency
from worker.engine.targets.onnx.runtime import OnnxRuntime

NETWORKS = ("resnet50", "resnet18")
NOT_SLOWER = 1.10
RUNS, BUDGET_SECONDS = 200, 30
SHORT_RUNS, SHORT_SECONDS = 30, 5
FINALISTS = 3
TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
OPERATORS = sorted({*QDQRegistry} | {*QLinearOpsRegistry})
"""What the library quantizes where it is not told."""
Made = TypeVar("Made")


@dataclass(frozen=True)
class Way:
    """One configuration of the library's quantizer."""

    form: Literal["QDQ", "QOperator"]
    types: Literal["u8s8", "u8u8", "s8s8"]
    """Of activations and weights."""
    per_channel: bool = False
    reduce_range: bool = False

    def __str__(self) -> str:
        grain = "each channel" if self.per_channel else "each weight"
        return f"{self.form} {self.types}, {grain}{', 7 bits' if self.reduce_range else ''}"


ADVISED = Way("QDQ", "u8s8", per_channel=True)
WAYS = (
    ADVISED,
    Way("QDQ", "u8s8"),
    Way("QDQ", "u8s8", per_channel=True, reduce_range=True),
    Way("QDQ", "u8u8"),
    Way("QDQ", "s8s8", per_channel=True),
    Way("QDQ", "s8s8"),
    Way("QOperator", "u8s8", per_channel=True),
    Way("QOperator", "u8s8"),
    Way("QOperator", "u8s8", per_channel=True, reduce_range=True),
    Way("QOperator", "u8u8"),
    Way("QOperator", "s8s8", per_channel=True),
    Way("QOperator", "s8s8"),
)


def tell(scene: Scene) -> list[Figure]:
    rows = []
    for name in scene.pick(NETWORKS, NETWORKS[1:]):
        scene.say(f"quantizing {name} once and {len(WAYS)} times")
        folder = scene.folder / name
        folder.mkdir()
        model = export_network(name, folder / "model.onnx")
        settings = Latency(runs=scene.pick(RUNS, 20), budget_s=BUDGET_SECONDS)
        rows += compared(name, model, pictures(scene.pick(32, 4), 1), pictures(16, 2), folder, settings)
    return rows


def compared(
    name: str, model: Path, calibration: np.ndarray, test: np.ndarray, folder: Path, settings: Latency
) -> list[Figure]:
    """Rows for one network; `calibration` and `test` are rows of its input `image`."""
    ours, our_seconds = _cpu(lambda: by_pare(model, calibration, folder))
    (prepared, ranges), preparing = _cpu(lambda: calibrated(model, calibration, folder))
    made = {way: _cpu(partial(by_library, prepared, ranges, way, folder)) for way in WAYS}
    files = {way: file for way, (file, _) in made.items()}
    (exact,) = outputs_of(model, {INPUT: test})
    noise = {file: sqnr_db(exact, outputs_of(file, {INPUT: test})[0]) for file in (ours, files[ADVISED])}

    short = Latency(runs=min(settings.runs, SHORT_RUNS), budget_s=min(settings.budget_s, SHORT_SECONDS))
    first = {way: turns(file, ours, test[:1], short) for way, file in files.items()}
    finalists = sorted(WAYS, key=lambda way: first[way].before.p50_ms / first[way].after.p50_ms)[:FINALISTS]
    last = {way: turns(files[way], ours, test[:1], settings) for way in finalists}
    fastest = min(last, key=lambda way: last[way].speedup)
    return [
        ratio(f"{name}: latency, Pare / fastest of ONNX Runtime ({fastest})", last[fastest], at_most(NOT_SLOWER)),
        *(ratio(f"{name}: latency, Pare / {way}", last.get(way, first[way])) for way in WAYS),
        Figure(f"{name}: size, Pare / ONNX Runtime", ours.stat().st_size / files[ADVISED].stat().st_size),
        Figure(f"{name}: signal to noise, Pare", noise[ours], "dB"),
        Figure(f"{name}: signal to noise, ONNX Runtime", noise[files[ADVISED]], "dB"),
        Figure(f"{name}: CPU time to quantize, Pare / ONNX Runtime", our_seconds / (preparing + made[ADVISED][1])),
    ]


def turns(theirs: Path, ours: Path, row: np.ndarray, settings: Latency) -> LatencyChange:
    """Both files in turns; `speedup` is how many times as fast as theirs ours is."""
    return measure_latency(OnnxRuntime(theirs, ours, 1, ours.parent), {INPUT: row}, settings, seed=0)


def ratio(name: str, change: LatencyChange, bound: Bound | None = None) -> Figure:
    """Our latency in units of theirs."""
    return Figure(name, 1 / change.speedup, "", bound, 1 / change.speedup_high, 1 / change.speedup_low)


def by_pare(model: Path, calibration: np.ndarray, folder: Path) -> Path:
    """The artifact a job would deliver."""
    rows = rows_of(folder, **{INPUT: calibration})
    return lowered(changed(QuantizeStatic(), model, folder, rows).model, "x86", folder)


def calibrated(model: Path, calibration: np.ndarray, folder: Path) -> tuple[Path, TensorsData]:
    """The library's preparation and min/max ranges of all it may quantize; they are the same for every way."""
    prepared = folder / "prepared.onnx"
    quant_pre_process(model, prepared)
    calibrator = create_calibrator(prepared, OPERATORS, folder / "augmented.onnx", CalibrationMethod.MinMax)
    calibrator.collect_data(RowReader({INPUT: calibration}))
    return prepared, calibrator.compute_data()


def by_library(prepared: Path, ranges: TensorsData, way: Way, folder: Path) -> Path:
    """The library's own file."""
    activations, weights = (TYPES[short] for short in (way.types[:2], way.types[2:]))
    mode = () if way.form == "QDQ" else (QuantizationMode.QLinearOps, True)
    quantizer = QDQQuantizer if way.form == "QDQ" else ONNXQuantizer
    lowered = quantizer(
        onnx.load(prepared),
        way.per_channel,
        way.reduce_range,
        *mode,
        weights,
        activations,
        copy.deepcopy(ranges),
        [],
        [],
        OPERATORS,
        {},
    )
    lowered.quantize_model()
    path = folder / f"library-{WAYS.index(way)}.onnx"
    lowered.model.save_model_to_file(path)
    return path


def _cpu(make: Callable[[], Made]) -> tuple[Made, float]:
    started = time.process_time()  # of all threads: the library's calibrater takes every core
    return make(), time.process_time() - started
