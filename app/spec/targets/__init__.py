"""Where the result will run, one file per format. The quantization profile belongs here: one plan suits every place."""

from typing import TYPE_CHECKING, Annotated, Any

from app.spec.choices import OneOf
from app.spec.targets.base import AnyTarget, ToolchainName
from app.spec.targets.coreml import CoreMlTarget
from app.spec.targets.executorch import ExecuTorchTarget
from app.spec.targets.litert import LiteRtTarget
from app.spec.targets.onnx import OnnxProfile, OnnxTarget
from app.spec.targets.openvino import OpenVinoTarget
from app.spec.targets.tensorrt import TensorRtProfile, TensorRtTarget
from app.spec.targets.torchscript import TorchEngine, TorchScriptTarget
from app.spec.targets.triton import TritonBackend, TritonTarget

TARGETS: list[type[AnyTarget]] = [
    OnnxTarget,
    OpenVinoTarget,
    LiteRtTarget,
    ExecuTorchTarget,
    TensorRtTarget,
    TorchScriptTarget,
    TritonTarget,
    CoreMlTarget,
]

if TYPE_CHECKING:
    Target = AnyTarget
else:  # pydantic takes it from the table; FastAPI would list an annotated base class in its document
    Target = Annotated[Any, OneOf(TARGETS)]

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
