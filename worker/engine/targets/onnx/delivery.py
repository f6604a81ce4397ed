"""The `onnx` target: lowers the plan by the rules of its profile and writes one self-describing file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import ModelProto

from app import __version__
from app.spec.signature import Signature
from app.spec.targets import OnnxTarget, TensorRtTarget
from worker.engine.errors import PlanNotSupported
from worker.engine.lowering.onnx.dynamic import lower_dynamic
from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.lowering.onnx.shared import lower_shared, lower_shared_as_floats
from worker.engine.lowering.onnx.static import lower_static
from worker.engine.lowering.onnx.weights import lower_weights, lower_weights_for_tensorrt
from worker.engine.model import Model
from worker.engine.onnx_graph.file import forget_origins, keep_used_domains, save
from worker.engine.onnx_graph.opsets import in_opset
from worker.engine.onnx_graph.sessions import ort
from worker.engine.plan.plan import DynamicPlan, SharedPlan, StaticPlan, WeightsPlan
from worker.engine.targets.base import ArtifactProvenance, ExportContext, Exported
from worker.engine.targets.onnx.runtime import OnnxRuntime
from worker.engine.targets.tensorrt.releases import RELEASES
from worker.engine.targets.tensorrt.rules import require_rules
from worker.engine.targets.usage import example_rows, usage


@contextmanager
def deliver_onnx(target: OnnxTarget, model: Model, context: ExportContext) -> Iterator[Exported]:
    """Write `model-<label>.onnx`, and `….onnx.data` if it is larger than 2 GB.

    Raises `PlanNotSupported`, `Unconvertible`, `RuleViolated`.
    """
    lowered = in_opset(lower(target, model), target.opset)
    if target.profile == "tensorrt":
        require_rules(lowered, RELEASES["trt10"])
    forget_origins(lowered)
    keep_used_domains(lowered)
    describe(lowered, target, context.provenance)
    files = save(lowered, context.out / f"model-{target.label.replace('/', '-')}.onnx")
    del lowered  # its tensors need not be held while the file is measured
    runtime = OnnxRuntime(context.original.graph, files[0], context.threads, context.scratch)
    # What the model's own export makes of it is compared when it is opened; a converted opset is new.
    pure = model is context.original
    exact = pure and target.opset is not None
    yield Exported(tuple(files), runtime, _usage(target, files, model.signature), exact, pure=pure)


@contextmanager
def open_onnx(_target: OnnxTarget, files: tuple[Path, ...], context: ExportContext) -> Iterator[Exported]:
    """Open it with ONNX Runtime; tensors beside the file are found by their names."""
    yield Exported(files, OnnxRuntime(context.original.graph, files[0], context.threads, context.scratch), usage="")


def _usage(target: OnnxTarget, files: list[Path], signature: Signature) -> str:
    code = f"""
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession({files[0].name!r}, providers=["CPUExecutionProvider"])
{example_rows(signature)}
outputs = session.run({[tensor.name for tensor in signature.outputs]}, rows)
"""
    return usage(
        target.title,
        [file.name for file in files],
        f"onnxruntime=={ort.__version__} numpy",
        code,
        signature,
        "Measured with this release on one thread; set `SessionOptions.intra_op_num_threads` to what you have.",
    )


def lower(target: OnnxTarget, model: Model) -> ModelProto:
    """The graph with the model's plan carried out as the profile wants it. Raises `PlanNotSupported`."""
    match model.plan:
        case None:
            return onnx.load(model.graph)
        case StaticPlan() as plan:
            return lower_static(plan, PROFILES[target.profile])
        case DynamicPlan() as plan:
            if not target.supports("quantize.dynamic"):
                raise PlanNotSupported(f"Profile {target.profile} has no operators that quantize while the model runs.")
            return lower_dynamic(plan, PROFILES[target.profile])
        case SharedPlan() as plan:
            return lower_shared_as_floats(plan) if target.profile == "tensorrt" else lower_shared(plan)
        case WeightsPlan() as plan:
            return lower_weights_for_tensorrt(plan) if target.profile == "tensorrt" else lower_weights(plan)


def describe(model: ModelProto, target: OnnxTarget | TensorRtTarget, provenance: ArtifactProvenance) -> None:
    """Say in the file who made it, from what and for what; notes of the original's author stay."""
    ours = {
        "pare.version": __version__,
        "pare.job": provenance.job,
        "pare.recipe_sha256": provenance.recipe_sha256,
        "pare.parent_sha256": provenance.parent_sha256,
        "pare.profile": target.profile,
    }
    notes = {entry.key: entry.value for entry in model.metadata_props if not entry.key.startswith("onnx.")}
    onnx.helper.set_model_props(model, notes | ours)
    model.producer_name, model.producer_version = "pare", __version__
