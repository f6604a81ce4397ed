"""The `litert` target: the program as a TensorFlow Lite file, converted and run by LiteRT."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from app.spec.signature import Signature
from app.spec.targets import LiteRtTarget
from app.spec.units import counted
from worker.engine.model import Model
from worker.engine.program import Program
from worker.engine.runtimes.elsewhere import Elsewhere
from worker.engine.targets import Delivery, Site, delivers, opens
from worker.engine.targets.flat import fixed_shapes, save_flat
from worker.engine.targets.usage import NUMPY, usage
from worker.engine.toolchain import Toolchain, started


@delivers(LiteRtTarget)
def deliver_litert(target: LiteRtTarget, model: Model, site: Site) -> Iterator[Delivery]:
    """Write `model-<label>.tflite`. Raises the toolchain's errors and `ReexportFailed`."""
    with started("litert", site.directory, site.progress) as litert:
        version = litert.do("version")["version"]
        baseline = _converted(litert, site.original.program, target.batch, "original")
        exact = model is site.original
        artifact = baseline if exact else _converted(litert, model.program, target.batch, "artifact")
        name = f"model-{target.label.replace('/', '-')}.tflite"
        file = Path(shutil.copyfile(litert.folder / artifact, site.out / name))
        runtime = Elsewhere(
            litert, f"LiteRT {version}", (baseline,), (artifact,), site.threads, notes=_notes(target, model.signature)
        )
        yield Delivery((file,), runtime, _usage(target, file, version, model.program), exact)


@opens(LiteRtTarget)
def open_litert(target: LiteRtTarget, files: tuple[Path, ...], site: Site) -> Iterator[Delivery]:
    """Open it with LiteRT, beside the original converted anew. Raises the toolchain's errors and `ReexportFailed`."""
    with started("litert", site.directory, site.progress) as litert:
        version = litert.do("version")["version"]
        baseline = _converted(litert, site.original.program, target.batch, "original")
        shutil.copyfile(files[0], litert.folder / files[0].name)
        runtime = Elsewhere(
            litert, f"LiteRT {version}", (baseline,), (files[0].name,), site.threads,
            notes=_notes(target, site.original.signature),
        )  # fmt: skip
        yield Delivery(files, runtime, usage="")


def _converted(litert: Toolchain, program: Program, batch: int, stem: str) -> str:
    save_flat(program, batch, litert.folder / f"{stem}.pt2")
    inputs, outputs = program.signature.inputs, program.signature.outputs
    return str(
        litert.do(
            "convert", program=f"{stem}.pt2", into=f"{stem}.tflite",
            inputs=[tensor.name for tensor in inputs], outputs=[tensor.name for tensor in outputs],
        )["file"]
    )  # fmt: skip


def _notes(target: LiteRtTarget, signature: Signature) -> tuple[str, ...]:
    if all(isinstance(tensor.shape[0], int) for tensor in signature.inputs if tensor.shape):
        return ()
    return (
        f"The file takes {counted(target.batch, 'row')} at a time: larger batches were run and timed as several calls.",
    )


def _usage(target: LiteRtTarget, file: Path, version: str, program: Program) -> str:
    shapes = fixed_shapes(program, target.batch)
    rows = "\n".join(
        f"    {tensor.name!r}: np.zeros({shapes[tensor.name]}, np.{NUMPY.get(tensor.dtype, tensor.dtype)}),"
        for tensor in program.signature.inputs
    )
    code = f"""
import numpy as np
from ai_edge_litert.interpreter import Interpreter

model = Interpreter({file.name!r}, num_threads=1).get_signature_runner()
rows = {{
{rows}
}}
outputs = model(**rows)
"""
    return usage(
        target.title, [file.name], f"ai-edge-litert=={version} numpy", code, program.signature,
        f"The file takes {target.batch} rows in one call: run more in several, or export with another `batch`.",
        "Measured with the XNNPACK delegate, which the interpreter applies by itself.",
    )  # fmt: skip
