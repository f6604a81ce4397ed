"""The `tensorrt` target: an ONNX file that passes TensorRT's rules, and the engine itself where there is a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx import ModelProto, TensorProto, load

from app.spec.signature import Signature
from app.spec.targets import OnnxTarget, TensorRtTarget
from worker.engine.model import Model
from worker.engine.onnx_graph.file import forget_origins, keep_used_domains, save
from worker.engine.onnx_graph.float16 import to_float16
from worker.engine.onnx_graph.sessions import ort
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.onnx.delivery import describe, lower
from worker.engine.targets.tensorrt.decompose import WRITTEN_OUT, write_out
from worker.engine.targets.tensorrt.operators import table
from worker.engine.targets.tensorrt.releases import RELEASES, Release
from worker.engine.targets.tensorrt.rules import require_rules
from worker.engine.targets.tensorrt.runtime import Engines, tensorrt_here
from worker.engine.targets.tensorrt.stand_in import StandIn
from worker.engine.targets.tensorrt.trtexec import build_command, precisions, shape_ranges, time_command
from worker.engine.targets.usage import example_rows, usage


@contextmanager
def deliver_tensorrt(target: TensorRtTarget, model: Model, context: ExportContext) -> Iterator[Exported]:
    """Write `model-tensorrt-<profile>-<precision>.onnx`, and `….onnx.data` if it is larger than 2 GB.

    Raises `PlanNotSupported`, `RuleViolated`, and `BuildFailed` where TensorRT is there and cannot build it.
    """
    release = RELEASES[target.profile]
    lowered = lower_for(target, model)
    require_rules(lowered, release)
    forget_origins(lowered)
    keep_used_domains(lowered)
    describe(lowered, target, context.provenance)
    flags = precisions(lowered)
    stem = f"model-{target.label.replace('/', '-')}"
    files = tuple(save(lowered, context.out / f"{stem}.onnx"))
    del lowered  # its tensors need not be held while the file is measured
    text = _usage(target, release, files, model.signature, flags)
    exact = model is context.original and target.precision == "fp32"
    trt = tensorrt_here(release.oldest[0])
    if trt is None:
        runtime = StandIn(context.original.graph, files[0], context.threads, context.scratch)
        yield Exported(files, runtime, text, exact, "planned")
        return
    ranges = shape_ranges(model.signature)
    with Engines(trt, context.original.graph, files[0], ranges, () if release.strongly_typed else flags) as engines:
        yield Exported(files, engines, text, exact)


@contextmanager
def open_tensorrt(target: TensorRtTarget, files: tuple[Path, ...], context: ExportContext) -> Iterator[Exported]:
    """Build its engine where TensorRT is, else run it with ONNX Runtime. Raises `BuildFailed`."""
    release = RELEASES[target.profile]
    trt = tensorrt_here(release.oldest[0])
    if trt is None:
        runtime = StandIn(context.original.graph, files[0], context.threads, context.scratch)
        yield Exported(files, runtime, usage="", status="planned")
        return
    flags = () if release.strongly_typed else precisions(load(files[0], load_external_data=False))
    with Engines(trt, context.original.graph, files[0], shape_ranges(context.original.signature), flags) as engines:
        yield Exported(files, engines, usage="")


def lower_for(target: TensorRtTarget, model: Model) -> ModelProto:
    """The graph with the plan carried out, in operators and types of the release. Raises `PlanNotSupported`."""
    lowered = lower(OnnxTarget(profile="tensorrt"), model)
    known = table().operators
    if any(known[name].since > RELEASES[target.profile].oldest for name in WRITTEN_OUT):
        write_out(lowered)
    if target.precision == "fp16":
        wide = (name for name, operator in known.items() if TensorProto.FLOAT16 not in operator.types)
        lowered = to_float16(lowered, tuple(name for name in wide if TensorProto.FLOAT in known[name].types))
    return lowered


def _usage(
    target: TensorRtTarget, release: Release, files: tuple[Path, ...], signature: Signature, flags: tuple[str, ...]
) -> str:
    name, float16 = files[0].name, target.precision == "fp16"
    code = f"""
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(
    {name!r}, providers=["CPUExecutionProvider"]{', disabled_optimizers=["NchwcTransformer"]' if float16 else ""}
)
{example_rows(signature)}
outputs = session.run({[tensor.name for tensor in signature.outputs]}, rows)
"""
    engine = (
        "The code above runs the file with ONNX Runtime, by which its outputs were compared. "
        f"{release.title} builds its engine on the machine where it will run, and for that machine alone:"
    )
    shapes = (
        "The shapes are the bounds of the model's own axes, and batches of 1 to 32 where it has none: narrower bounds "
        "make faster engines."
    )
    notes = [
        engine,
        f"```sh\n{build_command(name, release, signature, flags)}\n```",
        "Time it there; no figure of its speed is in the report unless a worker had TensorRT and a GPU:",
        f"```sh\n{time_command(name, signature)}\n```",
        shapes,
    ]
    if flags and not release.strongly_typed:
        notes.append(
            "The flags allow TensorRT the types that are in the graph; `--stronglyTyped` in their place holds it to "
            "them, as TensorRT 11 always does."
        )
    if "int4" in flags and target.profile == "trt10":
        notes.append("4-bit weights need opset 21, which TensorRT reads from 10.6 at the latest.")
    return usage(
        target.title, [file.name for file in files], f"onnxruntime=={ort.__version__} numpy", code, signature, *notes
    )
