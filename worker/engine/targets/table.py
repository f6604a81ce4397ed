"""Every target of the contract with its deployment format."""

from app.spec.targets import (
    CoreMlTarget,
    ExecuTorchTarget,
    LiteRtTarget,
    OnnxTarget,
    OpenVinoTarget,
    TensorRtTarget,
    TorchScriptTarget,
    TritonTarget,
)
from worker.engine.targets.coreml.compatibility import coreml_compatibility
from worker.engine.targets.coreml.delivery import deliver_coreml, open_coreml
from worker.engine.targets.executorch.compatibility import executorch_compatibility
from worker.engine.targets.executorch.delivery import deliver_executorch, open_executorch
from worker.engine.targets.format import Format
from worker.engine.targets.litert.compatibility import litert_compatibility
from worker.engine.targets.litert.delivery import deliver_litert, open_litert
from worker.engine.targets.onnx.compatibility import onnx_compatibility
from worker.engine.targets.onnx.delivery import deliver_onnx, open_onnx
from worker.engine.targets.openvino.compatibility import openvino_compatibility
from worker.engine.targets.openvino.delivery import deliver_openvino, open_openvino
from worker.engine.targets.tensorrt.compatibility import tensorrt_compatibility
from worker.engine.targets.tensorrt.delivery import deliver_tensorrt, open_tensorrt
from worker.engine.targets.torchscript.compatibility import torchscript_compatibility
from worker.engine.targets.torchscript.delivery import deliver_torchscript, open_torchscript
from worker.engine.targets.triton.compatibility import triton_compatibility
from worker.engine.targets.triton.delivery import deliver_triton, open_triton

FORMATS: dict[type, Format] = {
    CoreMlTarget: Format(deliver_coreml, open_coreml, coreml_compatibility),
    ExecuTorchTarget: Format(deliver_executorch, open_executorch, executorch_compatibility),
    LiteRtTarget: Format(deliver_litert, open_litert, litert_compatibility),
    OnnxTarget: Format(deliver_onnx, open_onnx, onnx_compatibility),
    OpenVinoTarget: Format(deliver_openvino, open_openvino, openvino_compatibility),
    TensorRtTarget: Format(deliver_tensorrt, open_tensorrt, tensorrt_compatibility),
    TorchScriptTarget: Format(deliver_torchscript, open_torchscript, torchscript_compatibility),
    TritonTarget: Format(deliver_triton, open_triton, triton_compatibility),
}
