"""The `coreml` target: the program as a Core ML package, run where Core ML is."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.spec.report import TargetStatus
from app.spec.signature import Signature
from app.spec.targets import CoreMlTarget
from app.spec.units import counted
from worker.engine.lowering.program.plan import quantized_program
from worker.engine.lowering.program.values import with_shared_values
from worker.engine.model import Model
from worker.engine.plan.plan import SharedPlan
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.coreml.runtime import NotRunnable
from worker.engine.targets.toolchain_runtime import ToolchainRuntime
from worker.engine.targets.usage import example_rows, usage
from worker.engine.toolchains.process import Toolchain, started
from worker.engine.torch_program.fixed_shape import save_fixed_shape
from worker.engine.torch_program.program import Program

PACKAGE = ".mlpackage.zip"


@contextmanager
def deliver_coreml(target: CoreMlTarget, model: Model, context: ExportContext) -> Iterator[Exported]:
    """Write `model-<label>.mlpackage.zip`. Raises the toolchain's errors and those of `quantized_program`."""
    with started("coreml", context.directory, context.progress) as coreml:
        baseline, _ = _converted(coreml, context.original.program, target, "original", precision="fp32")
        program, notes = _carried_out(model)
        shared = isinstance(model.plan, SharedPlan)
        stem = f"model-{target.label.replace('/', '-')}"
        artifact, skipped = _converted(coreml, program, target, stem, precision=target.precision, shared=shared)
        notes = (*notes, *(f"Not compressed: {weight}" for weight in skipped))
        file = Path(shutil.copyfile(coreml.folder / artifact, context.out / artifact))
        exact = model is context.original and target.precision == "fp32"
        runtime, status = _runtime(coreml, baseline, artifact, target, context, notes)
        yield Exported((file,), runtime, _usage(target, file, coreml, model.signature), exact, status)


def _carried_out(model: Model) -> tuple[Program, tuple[str, ...]]:
    """The program with the model's plan in it, and what to know of the plan."""
    if model.plan is None:
        return model.program, ()
    if isinstance(model.plan, SharedPlan):
        program, left = with_shared_values(model, model.plan)
        return program, tuple(f"Weight {name} is in no layer of the program, and is not shared." for name in left)
    made = quantized_program(model)
    return made.program, made.notes


@contextmanager
def open_coreml(target: CoreMlTarget, files: tuple[Path, ...], context: ExportContext) -> Iterator[Exported]:
    """Open it beside the original converted anew. Raises the toolchain's errors and `ReexportFailed`."""
    with started("coreml", context.directory, context.progress) as coreml:
        baseline, _ = _converted(coreml, context.original.program, target, "original", precision="fp32")
        shutil.copyfile(files[0], coreml.folder / files[0].name)
        runtime, status = _runtime(coreml, baseline, files[0].name, target, context, ())
        yield Exported(files, runtime, usage="", status=status)


def _runtime(
    coreml: Toolchain,
    baseline: str,
    artifact: str,
    target: CoreMlTarget,
    context: ExportContext,
    notes: tuple[str, ...],
) -> tuple[ToolchainRuntime, TargetStatus]:
    """Core ML on macOS; elsewhere what describes the package."""
    answer = coreml.do("version")
    notes = (f"The file takes {counted(target.batch, 'row')} at a time: larger batches are several calls.", *notes)
    kind, name = (ToolchainRuntime, "Core ML") if answer["runs"] else (NotRunnable, "coremltools")
    runtime = kind(coreml, f"{name} {answer['version']}", (baseline,), (artifact,), context.threads, notes)
    return runtime, "executed" if answer["runs"] else "converted"


def _converted(
    coreml: Toolchain, program: Program, target: CoreMlTarget, stem: str, *, precision: str, shared: bool = False
) -> tuple[str, list[str]]:
    save_fixed_shape(program, target.batch, coreml.folder / f"{stem}.pt2")
    inputs, outputs = program.signature.inputs, program.signature.outputs
    made = coreml.do(
        "convert",
        program=f"{stem}.pt2",
        into=f"{stem}{PACKAGE}",
        precision=precision,
        shared=shared,
        inputs=[tensor.name for tensor in inputs],
        outputs=[tensor.name for tensor in outputs],
    )
    return str(made["file"]), list(made["skipped"])


def _usage(target: CoreMlTarget, file: Path, coreml: Toolchain, signature: Signature) -> str:
    package = file.name.removesuffix(".zip")
    code = f"""
import platform
import zipfile

import coremltools
import numpy as np

zipfile.ZipFile({file.name!r}).extractall()
model = coremltools.models.MLModel({package!r}, skip_model_load=platform.system() != "Darwin")
{example_rows(signature, target.batch)}
if platform.system() == "Darwin":  # predictions need Core ML itself
    outputs = model.predict(rows)
"""
    version = coreml.do("version")["version"]
    return usage(
        target.title,
        [file.name],
        f"coremltools=={version} numpy",
        code,
        signature,
        f"The file takes {counted(target.batch, 'row')} in one call. In Xcode, unpack it and drag the package into a "
        "project.",
        "It was converted and not executed unless the report says otherwise: compare its outputs on a device before "
        "it is shipped.",
    )
