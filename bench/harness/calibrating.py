"""One calibration in a process of its own: `python -m bench.harness.calibrating who model.onnx rows.npz folder`.

Prints one line of JSON: `peak_mb` above the memory with all libraries loaded, `resident_mb` with it, and `seconds`.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process

from app.spec.data import DatasetSpec
from app.spec.quantize import QuantizeStatic
from bench.harness.memory import MB, watching
from bench.harness.reader import RowReader
from tests.support.engine.orders import changed, data_file
from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.sessions import session

PERCENTILE = 99.99


def pare(model: Path, rows: Path, folder: Path) -> None:
    """The step as a job takes it: preparation, extremes, histograms."""
    calibration = Rows.open(rows.parent, data_file(rows.name, DatasetSpec()))
    changed(QuantizeStatic(observer="percentile", percentile=PERCENTILE), model, folder, calibration)


def library(model: Path, rows: Path, folder: Path) -> None:
    """The library's calibrater on the same operators."""
    prepared = folder / "prepared.onnx"
    quant_pre_process(model, prepared)
    operators = sorted({node.op_type for node in onnx.load(prepared).graph.node})
    calibrater = create_calibrator(
        prepared,
        operators,
        folder / "augmented.onnx",
        CalibrationMethod.Percentile,
        extra_options={"percentile": PERCENTILE},
    )
    calibrater.collect_data(RowReader(np.load(rows)))
    calibrater.compute_data()


def main() -> None:
    """Do what the command line says."""
    who, model, rows, folder = sys.argv[1:]
    session(Path(model), 1)
    started = time.monotonic()
    with watching(os.getpid()) as seen:
        {"pare": pare, "library": library}[who](Path(model), Path(rows), Path(folder))
    print(json.dumps({"peak_mb": seen.growth_mb, "resident_mb": seen.peak / MB, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main()
