"""The formats that Triton Inference Server has a backend for."""

from app.spec.targets import OnnxTarget, OpenVinoTarget, TensorRtTarget
from worker.engine.targets.format import Format
from worker.engine.targets.onnx.compatibility import onnx_compatibility
from worker.engine.targets.onnx.delivery import deliver_onnx, open_onnx
from worker.engine.targets.openvino.compatibility import openvino_compatibility
from worker.engine.targets.openvino.delivery import deliver_openvino, open_openvino
from worker.engine.targets.tensorrt.compatibility import tensorrt_compatibility
from worker.engine.targets.tensorrt.delivery import deliver_tensorrt, open_tensorrt

BACKENDS: dict[type, Format] = {
    OnnxTarget: Format(deliver_onnx, open_onnx, onnx_compatibility),
    OpenVinoTarget: Format(deliver_openvino, open_openvino, openvino_compatibility),
    TensorRtTarget: Format(deliver_tensorrt, open_tensorrt, tensorrt_compatibility),
}
