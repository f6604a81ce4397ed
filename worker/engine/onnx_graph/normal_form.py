"""One way of writing what ONNX lets files write in several, so that what follows need know no other."""

import hashlib
from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from worker.engine.onnx_graph.file import graphs
from worker.engine.onnx_graph.names import free_name, rename_values, taken_names

FIRST_IR_WITH_CONSTANTS = 4
"""Of the file format: before, every initializer had to be an input as well."""
SHARED_ELEMENTS = 512
"""Of a weight that is worth storing once: an element more for each copy of a scalar harms nobody."""


def inputs_that_are_constants(graph: GraphProto) -> list[ValueInfoProto]:
    """Inputs with a default, which a caller may leave out: to every step they are weights."""
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name in constants]


def drop_defaults(model: ModelProto) -> None:
    """Take initializers out of the list of inputs."""
    for graph in graphs(model.graph):
        for value in inputs_that_are_constants(graph):
            graph.input.remove(value)
    model.ir_version = max(model.ir_version, FIRST_IR_WITH_CONSTANTS)


def write_biases_as_vectors(graph: GraphProto) -> None:
    """Give each Gemm a bias `[outputs]`; one that differs from row to row is added behind it."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    taken = taken_names(graph)
    added: list[tuple[int, NodeProto]] = []
    for place, node in enumerate(graph.node):
        bias = constants.get(node.input[2]) if node.op_type == "Gemm" and len(node.input) > 2 else None
        weight = constants.get(node.input[1]) if bias is not None else None
        if bias is None or weight is None or len(weight.dims) != 2:
            continue
        outputs = weight.dims[0 if _attribute(node, "transB", 0) else 1]
        if list(bias.dims) == [outputs]:
            continue
        values = numpy_helper.to_array(bias)
        if values.size == 1 or (values.ndim == 2 and values.shape[0] == 1):
            vector = np.ascontiguousarray(np.broadcast_to(values.reshape(-1), (outputs,)))
            node.input[2] = free_name(f"{bias.name}/vector", taken)
            graph.initializer.append(numpy_helper.from_array(vector, node.input[2]))
        elif _attribute(node, "beta", 1.0) == 1.0:
            product = free_name(f"{node.output[0]}/product", taken)
            names = [product, node.input[2]]
            added.append(
                (place, helper.make_node("Add", names, [node.output[0]], free_name(f"{node.name}/add", taken)))
            )
            _describe_alike(graph, node.output[0], product)
            del node.input[2:]
            node.output[0] = product
    for place, node in reversed(added):
        graph.node.insert(place + 1, node)


def share_equal_weights(graph: GraphProto) -> None:
    """Store weights of equal type, shape and bytes once: exporters write one for each call of a layer."""
    first: dict[tuple[bytes, int, tuple[int, ...]], str] = {}
    renamed: dict[str, str] = {}
    outputs = {value.name for value in graph.output}
    for tensor in _weights(graph):
        key = (_digest(tensor), tensor.data_type, tuple(tensor.dims))
        if key in first and tensor.name not in outputs:
            renamed[tensor.name] = first[key]
        first.setdefault(key, tensor.name)
    if renamed:
        kept = [tensor for tensor in graph.initializer if tensor.name not in renamed]
        described = [value for value in graph.value_info if value.name not in renamed]
        del graph.initializer[:], graph.value_info[:]
        graph.initializer.extend(kept)
        graph.value_info.extend(described)
        rename_values(graph, renamed)


def copy_shared_weights(graph: GraphProto) -> None:
    """Give every node that reads a weight one of its own, to be changed for it alone."""
    weights, taken = {tensor.name: tensor for tensor in _weights(graph)}, taken_names(graph)
    read: set[str] = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in weights and name in read:
                copy = graph.initializer.add()
                copy.CopyFrom(weights[name])
                copy.name = node.input[place] = free_name(f"{name}/{node.name}", taken)
            read.add(name)


def share_transposed_tables(graph: GraphProto) -> None:
    """Make a table for look-ups, that a matrix product has transposed, of the product's weight: both are one then.

    So are a language model's embedding and its last layer, of which exporters fold the transposition. The runtime
    folds it as well, when it loads the file.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in (node for inner in graphs(graph) for node in inner.node):
        for name in node.input:
            readers.setdefault(name, []).append(node)
    matrices = [tensor for tensor in _weights(graph) if len(tensor.dims) == 2]
    products = {
        (_digest(tensor, transposed=True), tensor.data_type): tensor.name
        for tensor in matrices
        if all(node.op_type in ("MatMul", "Gemm") for node in readers.get(tensor.name, ()))
    }
    taken = taken_names(graph)
    for tensor in matrices:
        product = products.get((_digest(tensor), tensor.data_type))
        tables = readers.get(tensor.name, ())
        if product not in (None, tensor.name) and tables and all(node.op_type == "Gather" for node in tables):
            name = free_name(f"{tensor.name}/transposed", taken)
            graph.node.insert(0, helper.make_node("Transpose", [product], [tensor.name], name, perm=[1, 0]))
            graph.value_info.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            graph.initializer.remove(tensor)


def _weights(graph: GraphProto) -> Iterator[TensorProto]:
    for tensor in graph.initializer:
        if len(tensor.dims) > 1 and int(np.prod(tensor.dims)) >= SHARED_ELEMENTS:
            yield tensor


def _digest(tensor: TensorProto, *, transposed: bool = False) -> bytes:
    array = numpy_helper.to_array(tensor)
    if transposed:
        array = array.T
    return hashlib.sha256(array.tobytes()).digest()


def _describe_alike(graph: GraphProto, value: str, other: str) -> None:
    """Note of `other` the type and shape that are noted of `value`."""
    for noted in (*graph.value_info, *graph.output):
        if noted.name == value:
            alike = graph.value_info.add()
            alike.CopyFrom(noted)
            alike.name = other
            return


def _attribute(node: NodeProto, name: str, default: float) -> float:
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)
