"""A dynamic plan as an ONNX graph: integer matrix products behind DynamicQuantizeLinear."""

import onnx
from onnx import ModelProto
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode

from worker.engine.plan import DynamicPlan
from worker.engine.targets.onnx_profiles import Profile


def lower_dynamic(plan: DynamicPlan, profile: Profile) -> ModelProto:
    """The quantized graph.

    Activations are unsigned in every profile: DynamicQuantizeLinear makes nothing else. `onnxruntime.quantization.
    quantize_dynamic` does the same, but reads and writes files, and warns through the root logger.
    """
    model = onnx.load(plan.graph)
    chosen = [node for node in model.graph.node if node.name in set(plan.nodes)]
    # The quantizer first replaces each Gemm by a MatMul and an Add, with new names.
    names = [f"{node.name}_MatMul" if node.op_type == "Gemm" else node.name for node in chosen]
    quantizer = ONNXQuantizer(
        model,
        plan.per_channel,
        profile.reduce_range,
        QuantizationMode.IntegerOps,
        False,  # not static
        QuantType.QInt8,
        QuantType.QUInt8,
        None,
        names,
        [],
        sorted({"MatMul" if node.op_type == "Gemm" else node.op_type for node in chosen}),
        {"MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    return quantizer.model.model
