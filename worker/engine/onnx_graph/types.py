"""Types and shapes of the values in an ONNX graph, as far as ONNX can tell them without running it."""

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, helper

KNOWN_ELEMENTS = 4096
"""Constants of fewer are kept while types and shapes are inferred: shapes are computed from them."""
Shape = tuple[int | None, ...]


def inferred(model: ModelProto) -> tuple[dict[str, int], dict[str, Shape]]:
    """Type and shape of every value for which ONNX can tell them, inner graphs included."""
    skeleton = _skeleton(model)
    try:
        graph = onnx.shape_inference.infer_shapes(skeleton, check_type=False, strict_mode=False, data_prop=True).graph
    except Exception:  # noqa: BLE001  # it raises its C++ errors; the rules that need no types work without
        graph = skeleton.graph
    types: dict[str, int] = {}
    shapes: dict[str, Shape] = {}
    _note(graph, types, shapes)
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return types, shapes


def _skeleton(model: ModelProto) -> ModelProto:
    """The model without its large constants, which become inputs: inference serializes what it is given."""
    skeleton = ModelProto(ir_version=model.ir_version)
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    graph = skeleton.graph
    graph.name = "skeleton"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    given = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims)) < KNOWN_ELEMENTS:
            graph.initializer.append(tensor)
        elif tensor.name not in given:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return skeleton


def _note(graph: GraphProto, types: dict[str, int], shapes: dict[str, Shape]) -> None:
    for value in (*graph.input, *graph.value_info, *graph.output):
        if not value.type.HasField("tensor_type"):
            continue
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(
                size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim
            )
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                _note(inner, types, shapes)
