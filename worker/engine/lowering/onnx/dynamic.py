"""A dynamic plan as an ONNX graph: integer matrix products behind DynamicQuantizeLinear."""

from collections import Counter

import onnx
from onnx import GraphProto, ModelProto
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode

from worker.engine.lowering.onnx.profiles import Profile
from worker.engine.onnx_graph.topological import sort_nodes
from worker.engine.plan.plan import DynamicPlan


def lower_dynamic(plan: DynamicPlan, profile: Profile) -> ModelProto:
    """The quantized graph.

    Activations are unsigned in every profile: DynamicQuantizeLinear makes nothing else. `onnxruntime.quantization.
    quantize_dynamic` does the same, but reads and writes files, and warns through the root logger.
    """
    model = onnx.load(plan.graph)
    unshare_gemm_weights(model.graph)
    forget_shapes_of_weights(model.graph)
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
    lowered: ModelProto = quantizer.model.model
    sort_nodes(lowered.graph)
    return lowered


def forget_shapes_of_weights(graph: GraphProto) -> None:
    """Drop what is noted of the shapes of constants: the quantizer transposes some, and the notes would be wrong."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in constants]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def unshare_gemm_weights(graph: GraphProto) -> None:
    """Give a Gemm that transposes its weight a copy of its own where something else reads the weight, too.

    The quantizer transposes such a weight in place "assuming it is not used by any other node": tied weights came
    out wrong (onnxruntime 1.31, `onnx_model.py`, `__replace_gemm_with_matmul`).
    """
    readers = Counter(name for node in graph.node for name in node.input)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        transposes = any(entry.name == "transB" and entry.i for entry in node.attribute)
        if node.op_type != "Gemm" or not transposes or readers[node.input[1]] < 2 or node.input[1] not in constants:
            continue
        copy = graph.initializer.add()
        copy.CopyFrom(constants[node.input[1]])
        copy.name = f"{node.input[1]}/{node.name}"
        node.input[1] = copy.name
