"""The `executorch` target: the program, with its plan carried out, as an ExecuTorch file that XNNPACK executes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.spec.signature import Signature
from app.spec.targets import ExecuTorchTarget
from app.spec.units import counted
from worker.engine.lowering.program.plan import QuantizedProgram, quantized_program
from worker.engine.model import Model
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.plan import DynamicPlan
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.executorch.runtime import executorch_runtime
from worker.engine.targets.toolchain_runtime import ToolchainRuntime
from worker.engine.targets.usage import example_rows, usage
from worker.engine.toolchains.process import Toolchain, started
from worker.engine.torch_program.fixed_shape import flexible, save
from worker.engine.torch_program.program import Program


@contextmanager
def deliver_executorch(target: ExecuTorchTarget, model: Model, context: ExportContext) -> Iterator[Exported]:
    """Write `model-<label>.pte`, and `….pte.json` with the names of its tensors and the placement of its operators.

    Raises the toolchain's errors, and those of `quantized_program` and `flexible`.
    """
    quantized = None if model.plan is None else _carried_out(model)
    program = model.program if quantized is None else quantized.program
    with started("executorch", context.directory, context.progress) as executorch:
        baseline = _converted(executorch, context.original.program, target.batch, "original")
        exact = model is context.original
        artifact = baseline if exact else _converted(executorch, program, target.batch, "artifact")
        name = f"model-{target.label.replace('/', '-')}.pte"
        files = tuple(
            Path(shutil.copyfile(executorch.folder / made, context.out / made.replace(artifact[0], name)))
            for made in artifact
        )
        runtime = executorch_runtime(executorch, baseline, artifact, context, _left(quantized))
        yield Exported(files, runtime, _usage(target, files, runtime, model.signature), exact)


@contextmanager
def open_executorch(target: ExecuTorchTarget, files: tuple[Path, ...], context: ExportContext) -> Iterator[Exported]:
    """Open it beside the original converted anew. Raises the toolchain's errors and `ReexportFailed`."""
    with started("executorch", context.directory, context.progress) as executorch:
        baseline = _converted(executorch, context.original.program, target.batch, "original")
        for file in files:
            shutil.copyfile(file, executorch.folder / file.name)
        runtime = executorch_runtime(executorch, baseline, tuple(file.name for file in files), context)
        yield Exported(files, runtime, usage="")


def _carried_out(model: Model) -> QuantizedProgram:
    try:
        return quantized_program(model)
    except NothingToQuantize as error:
        if not isinstance(model.plan, DynamicPlan):
            raise
        raise NothingToQuantize(
            "XNNPACK quantizes linear layers while a model runs, and this one has none.",
            remedy="Use quantize.static for convolutional models, or deliver for another target.",
        ) from error


def _converted(executorch: Toolchain, program: Program, batch: int, stem: str) -> tuple[str, ...]:
    save(flexible(program, batch), executorch.folder / f"{stem}.pt2")
    made = executorch.do(
        "convert",
        program=f"{stem}.pt2",
        into=f"{stem}.pte",
        inputs=[tensor.name for tensor in program.signature.inputs],
        outputs=[tensor.name for tensor in program.signature.outputs],
    )
    return tuple(made["files"])


def _left(quantized: QuantizedProgram | None) -> str:
    """What of the plan was not carried out, '' if all was."""
    if quantized is None or not quantized.left:
        return ""
    names = f"{', '.join(quantized.left[:5])}{', …' if len(quantized.left) > 5 else ''}"
    count = counted(len(quantized.left), "operator")
    return f"{count} of the plan stayed in floating point, since XNNPACK has no form of them: {names}."


def _usage(target: ExecuTorchTarget, files: tuple[Path, ...], runtime: ToolchainRuntime, signature: Signature) -> str:
    version = runtime.name.rpartition(" ")[2]
    code = f"""
import json

import numpy as np
import torch
from executorch.runtime import Runtime

method = Runtime.get().load_program({files[0].name!r}).load_method("forward")
names = json.load(open({files[1].name!r}))
{example_rows(signature)}
tensors = [torch.from_numpy(rows[name]) for name in names["inputs"]]
outputs = dict(zip(names["outputs"], method.execute(tensors)))
"""
    return usage(
        target.title,
        [file.name for file in files],
        f"executorch=={version} numpy",
        code,
        signature,
        "The `.pte` file is the model. It knows its tensors by their order, which is that of the table and of the "
        "`.json` file.",
        f"It takes up to {target.batch} rows in one call: run more in several, or export with another `batch`.",
        "In C++ load it with `executorch::extension::Module` and link `xnnpack_backend`, and `portable_ops_lib` or "
        "`optimized_native_cpu_ops_lib` for the operators under `fallback` in the `.json` file.",
    )
