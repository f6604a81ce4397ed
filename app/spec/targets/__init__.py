"""Where the result will run, one file per format. The quantization profile belongs here: one plan suits every place."""

from typing import Annotated

from pydantic import Field

from app.spec.targets.base import AnyTarget, ToolchainName
from app.spec.targets.coreml import CoreMlTarget
from app.spec.targets.executorch import ExecuTorchTarget
from app.spec.targets.litert import LiteRtTarget
from app.spec.targets.onnx import OnnxProfile, OnnxTarget
from app.spec.targets.openvino import OpenVinoTarget
from app.spec.targets.tensorrt import TensorRtProfile, TensorRtTarget
from app.spec.targets.torchscript import TorchEngine, TorchScriptTarget
from app.spec.targets.triton import TritonBackend, TritonTarget

Target = Annotated[
    CoreMlTarget
    | ExecuTorchTarget
    | LiteRtTarget
    | OnnxTarget
    | OpenVinoTarget
    | TensorRtTarget
    | TorchScriptTarget
    | TritonTarget,
    Field(discriminator="format"),
]
TARGETS: tuple[type[AnyTarget], ...] = (
    OnnxTarget,
    OpenVinoTarget,
    LiteRtTarget,
    ExecuTorchTarget,
    TensorRtTarget,
    TorchScriptTarget,
    TritonTarget,
    CoreMlTarget,
)

__all__ = [
    "TARGETS",
    "AnyTarget",
    "CoreMlTarget",
    "ExecuTorchTarget",
    "LiteRtTarget",
    "OnnxProfile",
    "OnnxTarget",
    "OpenVinoTarget",
    "Target",
    "TensorRtProfile",
    "TensorRtTarget",
    "ToolchainName",
    "TorchEngine",
    "TorchScriptTarget",
    "TritonBackend",
    "TritonTarget",
]
