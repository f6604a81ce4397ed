"""Names that ONNX Runtime's quantizer makes of others: it does not look whether the model has them already."""

import re

from onnx import GraphProto

from worker.engine.onnx_graph.names import free_name, rename_values, taken_names

ADDED = re.compile(
    r"_(scale|zero_point|quantized|QuantizeLinear|DequantizeLinear|ReduceM|Abs|output_quantized|MatMul|Add|Transpose|bias_)"
)
"""What it puts behind a tensor's name, and then more, for each constant, value and node that it adds (1.31.1)."""


def make_room(graph: GraphProto) -> dict[str, str]:
    """Rename values of which the quantizer would make a name that is taken; their names for the meantime, by name.

    `rename_values` gives them their own back afterwards; what was added keeps the name made of the other one.
    """
    taken = taken_names(graph)
    begins = {name[: match.start()] for name in taken for match in ADDED.finditer(name)}
    values = {name for node in graph.node for name in (*node.input, *node.output) if name}
    meanwhile: dict[str, str] = {}
    for name in sorted(begins & values):
        other = free_name(f"{name}/quantized", taken)
        while any(entry.startswith(f"{other}_") for entry in taken):
            other = free_name(f"{name}/quantized", taken)
        meanwhile[name] = other
    rename_values(graph, meanwhile)
    return meanwhile
