"""The `openvino` target: the graph as the `onnx` target would deliver it, converted to OpenVINO's own format."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

from app.spec.signature import Signature
from app.spec.targets import OnnxTarget, OpenVinoTarget
from worker.engine.data.rows import Rows
from worker.engine.lowering.onnx.shared import lower_shared_as_floats
from worker.engine.measure.batching import BatchRange
from worker.engine.measure.running import filled
from worker.engine.model import Model
from worker.engine.plan.plan import SharedPlan
from worker.engine.quantization.errors import CalibrationFailed
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.onnx.delivery import lower
from worker.engine.targets.openvino.runtime import openvino_runtime
from worker.engine.targets.toolchain_runtime import ToolchainRuntime
from worker.engine.targets.usage import example_rows, usage
from worker.engine.toolchains.process import Toolchain, started

CALIBRATION_ROWS, CALIBRATION_BATCH = 300, 16
"""As many as NNCF looks at if it is not told otherwise, and how many of them at once."""


@contextmanager
def deliver_openvino(target: OpenVinoTarget, model: Model, context: ExportContext) -> Iterator[Exported]:
    """Write `model-openvino-<precision>.xml` and `….bin`. Raises the toolchain's errors."""
    with started("openvino", context.directory, context.progress) as openvino:
        stem = f"model-{target.label.replace('/', '-')}"
        baseline = _converted(openvino, onnx.load(context.original.graph), "original", "fp32")
        rows = _calibration(openvino, model.signature, context.calibration) if target.needs_calibration else []
        artifact = _converted(openvino, _lowered(model), stem, target.precision, nncf=target.nncf, rows=rows)
        files = tuple(Path(shutil.copyfile(openvino.folder / name, context.out / name)) for name in artifact)
        runtime = openvino_runtime(openvino, baseline, artifact, context)
        exact = model is context.original and target.precision == "fp32" and target.nncf is None
        yield Exported(files, runtime, _usage(target, files, runtime, model.signature), exact)


@contextmanager
def open_openvino(_target: OpenVinoTarget, files: tuple[Path, ...], context: ExportContext) -> Iterator[Exported]:
    """Open it with OpenVINO, beside the original converted anew. Raises the toolchain's errors."""
    with started("openvino", context.directory, context.progress) as openvino:
        baseline = _converted(openvino, onnx.load(context.original.graph), "original", "fp32")
        for file in files:
            shutil.copyfile(file, openvino.folder / file.name)
        runtime = openvino_runtime(openvino, baseline, tuple(file.name for file in files), context)
        yield Exported(files, runtime, usage="")


def _usage(target: OpenVinoTarget, files: tuple[Path, ...], runtime: ToolchainRuntime, signature: Signature) -> str:
    version = runtime.name.rpartition(" ")[2]
    code = f"""
import numpy as np
import openvino

settings = {{"INFERENCE_PRECISION_HINT": "f32"}}
model = openvino.Core().compile_model({files[0].name!r}, "CPU", settings)
{example_rows(signature)}
outputs = {{output.get_any_name(): array for output, array in model(rows).items()}}
"""
    return usage(
        target.title,
        [file.name for file in files],
        f"openvino=={version} numpy",
        code,
        signature,
        "Keep both files in one folder. Measured with `INFERENCE_PRECISION_HINT` f32: without it, CPUs with AMX round "
        "what is left in floating point to bfloat16.",
    )


def _lowered(model: Model) -> onnx.ModelProto:
    # Packed indices are unpacked by shifts, which OpenVINO computes wrongly.
    return lower_shared_as_floats(model.plan) if isinstance(model.plan, SharedPlan) else lower(OnnxTarget(), model)


def _calibration(openvino: Toolchain, signature: Signature, rows: Rows | None) -> list[str]:
    """Names of files with the rows that NNCF measures on, a batch each; other rows than these are not looked at."""
    if rows is None:
        raise CalibrationFailed("There are no calibration rows.")
    size, names = BatchRange.of(signature).nearest(CALIBRATION_BATCH), []
    for number, (feeds, _) in enumerate(rows.sample(CALIBRATION_ROWS, seed=0).batches(size)):
        names.append(f"calibration-{number}.npz")
        with (openvino.folder / names[-1]).open("wb") as file:
            np.savez(file, **filled(feeds, size))  # type: ignore[arg-type]  # numpy types its own option first
    return names


def _converted(
    openvino: Toolchain,
    graph: onnx.ModelProto,
    stem: str,
    precision: str,
    *,
    nncf: str | None = None,
    rows: Sequence[str] = (),
) -> tuple[str, ...]:
    # The tensors beside the graph: a protobuf message ends at 2 GB, and reading it back costs less memory so.
    onnx.save(graph, openvino.folder / f"{stem}.onnx", save_as_external_data=True, location=f"{stem}.tensors")
    made = openvino.do("convert", model=f"{stem}.onnx", into=stem, precision=precision, nncf=nncf, rows=list(rows))
    return tuple(made["files"])
