"""Which values of a graph become 8-bit with the nodes that touch them."""

from onnx import GraphProto, TensorProto


def activations(graph: GraphProto, nodes: frozenset[str]) -> tuple[str, ...]:
    """The float32 values that go into or come out of these nodes, constants left out."""
    constants = {tensor.name for tensor in graph.initializer}
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    touched = (name for node in graph.node if node.name in nodes for name in (*node.input, *node.output))
    return tuple(
        dict.fromkeys(name for name in touched if types.get(name) == TensorProto.FLOAT and name not in constants)
    )
