"""The `litert` target: the program as a TensorFlow Lite file, converted and run by LiteRT."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.spec.targets import LiteRtTarget
from app.spec.units import counted
from worker.engine.lowering.program.plan import quantized_program
from worker.engine.model import Model
from worker.engine.plan.plan import StaticPlan
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.litert.runtime import litert_runtime
from worker.engine.targets.toolchain_runtime import ToolchainRuntime
from worker.engine.targets.usage import NUMPY, usage
from worker.engine.toolchains.process import Toolchain, started
from worker.engine.torch_program.fixed_shape import fixed_shapes, save_fixed_shape
from worker.engine.torch_program.program import Program


@contextmanager
def deliver_litert(target: LiteRtTarget, model: Model, context: ExportContext) -> Iterator[Exported]:
    """Write `model-<label>.tflite`.

    Raises the toolchain's errors, `ReexportFailed` and those of `quantized_program`.
    """
    with started("litert", context.directory, context.progress) as litert:
        baseline = _converted(litert, context.original.program, target.batch, "original")
        exact, artifact = model is context.original, baseline
        notes: tuple[str, ...] = ()
        if not exact:
            program, notes = _carried_out(model)
            artifact = _converted(litert, program, target.batch, "artifact", static=isinstance(model.plan, StaticPlan))
        name = f"model-{target.label.replace('/', '-')}.tflite"
        file = Path(shutil.copyfile(litert.folder / artifact, context.out / name))
        runtime = litert_runtime(litert, baseline, artifact, target, context, *notes)
        yield Exported((file,), runtime, _usage(target, file, runtime, model), exact)


@contextmanager
def open_litert(target: LiteRtTarget, files: tuple[Path, ...], context: ExportContext) -> Iterator[Exported]:
    """Open it with LiteRT, beside the original converted anew. Raises the toolchain's errors and `ReexportFailed`."""
    with started("litert", context.directory, context.progress) as litert:
        baseline = _converted(litert, context.original.program, target.batch, "original")
        shutil.copyfile(files[0], litert.folder / files[0].name)
        runtime = litert_runtime(litert, baseline, files[0].name, target, context)
        yield Exported(files, runtime, usage="")


def _carried_out(model: Model) -> tuple[Program, tuple[str, ...]]:
    """The program with the model's plan in it, and what to know of the plan."""
    if model.plan is None:
        return model.program, ()
    made = quantized_program(model)
    return made.program, made.notes


def _converted(litert: Toolchain, program: Program, batch: int, stem: str, *, static: bool = False) -> str:
    save_fixed_shape(program, batch, litert.folder / f"{stem}.pt2")
    inputs, outputs = program.signature.inputs, program.signature.outputs
    return str(
        litert.do(
            "convert",
            program=f"{stem}.pt2",
            into=f"{stem}.tflite",
            kernels="static" if static else "dynamic",
            inputs=[tensor.name for tensor in inputs],
            outputs=[tensor.name for tensor in outputs],
        )["file"]
    )


def _usage(target: LiteRtTarget, file: Path, runtime: ToolchainRuntime, model: Model) -> str:
    version = runtime.name.rpartition(" ")[2]
    static = isinstance(model.plan, StaticPlan)
    shapes = fixed_shapes(model.program, target.batch)
    rows = "\n".join(
        f"    {tensor.name!r}: np.zeros({shapes[tensor.name]}, np.{NUMPY.get(tensor.dtype, tensor.dtype)}),"
        for tensor in model.signature.inputs
    )
    code = f"""
import numpy as np
from ai_edge_litert.interpreter import Interpreter

model = Interpreter({file.name!r}, num_threads=1).get_signature_runner()
rows = {{
{rows}
}}
{CODED_CALL if static else "outputs = model(**rows)"}
"""
    return usage(
        target.title,
        [file.name],
        f"ai-edge-litert=={version} numpy",
        code,
        model.signature,
        f"The file takes {counted(target.batch, 'row')} in one call: run more in several, or set another `batch`.",
        *([CODED_NOTE] if static else []),
        "Measured with the XNNPACK delegate, which the interpreter applies by itself.",
    )


CODED_NOTE: Final = (
    "Float inputs and outputs are int8 codes in the file, as integer-only processors want them: "
    "value = scale * (code - zero). The code above translates."
)
CODED_CALL: Final = """
def coded(array, detail):
    scale, zero = detail["quantization"]
    return np.clip(np.rint(array / scale) + zero, -128, 127).astype(np.int8) if scale else array


def decoded(array, detail):
    scale, zero = detail["quantization"]
    return np.float32(scale) * (array.astype(np.float32) - zero) if scale else array


given, returned = model.get_input_details(), model.get_output_details()
answer = model(**{name: coded(array, given[name]) for name, array in rows.items()})
outputs = {name: decoded(array, returned[name]) for name, array in answer.items()}
""".strip()
