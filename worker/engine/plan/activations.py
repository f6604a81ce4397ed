"""Which values of a graph become 8-bit with the nodes that touch them."""

from onnx import GraphProto, TensorProto

from worker.engine.plan.selection import CLAMPS


def activations(graph: GraphProto, nodes: frozenset[str]) -> tuple[str, ...]:
    """The float32 values that go into or come out of these nodes, constants left out."""
    constants = {tensor.name for tensor in graph.initializer}
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    touched = (name for node in graph.node if node.name in nodes for name in (*node.input, *node.output))
    return tuple(
        dict.fromkeys(name for name in touched if types.get(name) == TensorProto.FLOAT and name not in constants)
    )


def clamped_by(graph: GraphProto, nodes: frozenset[str]) -> dict[str, str]:
    """Values that only a quantized ReLU or Clip reads, with its output, whose range they take.

    The quantizer does the same (`adjust_tensor_ranges`), since saturation replaces the clamp. Not watching them lets
    the runtime fuse the clamp into the convolution while it calibrates.
    """
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    outputs = {output.name for output in graph.output}
    return {
        node.input[0]: node.output[0]
        for node in graph.node
        if node.op_type in CLAMPS
        and node.name in nodes
        and len(readers[node.input[0]]) == 1
        and node.input[0] not in outputs
    }
