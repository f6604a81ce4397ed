"""A dynamic plan as an ONNX graph: integer matrix products behind DynamicQuantizeLinear."""

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode

from worker.engine.lowering.onnx.profiles import Profile
from worker.engine.lowering.onnx.quantizer_names import make_room
from worker.engine.lowering.onnx.tied import Codes, look_up_codes
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.onnx_graph.names import free_name, rename_values, taken_names
from worker.engine.onnx_graph.normal_form import share_transposed_tables
from worker.engine.onnx_graph.topological import sort_nodes
from worker.engine.plan.plan import DynamicPlan
from worker.engine.plan.selection import is_plain_gemm

PRODUCTS = frozenset({"Gemm", "MatMul"})


def lower_dynamic(plan: DynamicPlan, profile: Profile) -> ModelProto:
    """The quantized graph.

    Activations are unsigned in every profile: DynamicQuantizeLinear makes nothing else. `onnxruntime.quantization.
    quantize_dynamic` does the same, but reads and writes files, and warns through the root logger.
    """
    model = onnx.load(plan.graph)
    transpose_gemm_weights(model.graph)
    share_transposed_tables(model.graph)
    forget_shapes_of_weights(model.graph)
    products = {node.input[1] for node in model.graph.node if node.name in set(plan.nodes) and node.op_type in PRODUCTS}
    chosen = [
        node
        for node in model.graph.node
        if node.name in set(plan.nodes) and not (node.op_type == "Gather" and node.input[0] in products)
    ]
    # The quantizer first replaces each Gemm by a MatMul and an Add, with new names.
    names = [f"{node.name}_MatMul" if node.op_type == "Gemm" else node.name for node in chosen]
    meanwhile = make_room(model.graph)
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
    coded = {
        name: Codes(value.q_name, value.scale_name, value.zp_name, axis=1)
        for name, value in quantizer.quantized_value_map.items()
        if name in {meanwhile.get(product, product) for product in products}
    }
    look_up_codes(lowered.graph, coded)
    rename_values(lowered.graph, {other: name for name, other in meanwhile.items()})
    sort_nodes(lowered.graph)
    return lowered


def forget_shapes_of_weights(graph: GraphProto) -> None:
    """Drop what is noted of the shapes of constants: the quantizer transposes some, and the notes would be wrong."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in constants]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def transpose_gemm_weights(graph: GraphProto) -> None:
    """Give Gemms that transpose their weight the transposed one, of which all that read the same have one.

    The quantizer, which makes a MatMul of every Gemm, transposes such a weight in place "assuming it is not used by
    any other node": tied weights came out wrong (onnxruntime 1.31, `onnx_model.py`, `__replace_gemm_with_matmul`).
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    turned = {
        node.name: flag
        for node in graph.node
        if node.op_type == "Gemm" and node.input[1] in constants and is_plain_gemm(node)
        for flag in node.attribute
        if flag.name == "transB" and flag.i
    }
    taken, index = taken_names(graph), GraphIndex(graph)
    transposed: dict[str, str] = {}
    for node in graph.node:
        if node.name not in turned:
            continue
        name = node.input[1]
        if name not in transposed:
            values = np.ascontiguousarray(numpy_helper.to_array(constants[name]).T)
            alone = all(reader.name in turned for reader in index.readers(name) or [NodeProto()])
            transposed[name] = name if alone else free_name(f"{name}/transposed", taken)
            tensor = constants[name] if alone else graph.initializer.add()
            tensor.CopyFrom(numpy_helper.from_array(values, transposed[name]))
        node.attribute.remove(turned[node.name])
        node.input[1] = transposed[name]
