"""What ONNX Runtime's quantizer made of a float graph, by the names that the tensors have in the float graph.

A plan knows tensors and layers by these names, and they stay the same whatever a target makes of the plan. The names
that the quantizer invents (for codes, scales, and a graph's outputs in floating point) are read off its own record of
what it quantized, and never taken apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from onnx import ModelProto
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizedValueType

from worker.engine.onnx_graph.names import rename_values


@dataclass(frozen=True)
class QuantizedActivation:
    """One QuantizeLinear of an activation; there are several of a tensor where each of its readers has its own."""

    tensor: str
    """In the float graph."""
    codes: str
    """The value that QuantizeLinear puts out, or what stands in its place for all that read it."""
    scale: str
    zero_point: str
    """Constants with one element."""
    scale_of: str
    """The tensor whose scale this is: itself, or that whose values it holds in another order."""

    @property
    def has_own_scale(self) -> bool:
        """Whether the scale was chosen for this tensor."""
        return self.scale_of == self.tensor


@dataclass(frozen=True)
class QuantizedConstant:
    """A weight or bias as codes."""

    codes: str
    """The constant's name."""
    axis: int
    """The axis along which scales differ; 0 where there is one scale."""


@dataclass(frozen=True)
class QuantizedGraph:
    """A graph with QuantizeLinear and DequantizeLinear."""

    model: ModelProto
    activations: tuple[QuantizedActivation, ...]
    """In the graph's order of nodes."""
    constants: Mapping[str, QuantizedConstant]
    """By their names in the float graph."""

    def tensors_by_codes(self) -> dict[str, str]:
        """The activation of the float graph that codes stand for."""
        return {activation.codes: activation.tensor for activation in self.activations}


def quantized_graph(quantizer: QDQQuantizer, meanwhile: Mapping[str, str]) -> QuantizedGraph:
    """Have the quantizer quantize, and read its record.

    Tensors that have other names `meanwhile`, see `make_room`, have their own again.
    """
    model: ModelProto = quantizer.quantize_model()
    names = {other: name for name, other in meanwhile.items()}
    record = {tensor: entry.original for tensor, entry in quantizer.quantized_value_map.items()}
    constants = {
        tensor: QuantizedConstant(value.q_name, value.axis or 0)
        for tensor, value in record.items()
        if value.value_type == QuantizedValueType.Initializer
    }
    activations = {tensor: value for tensor, value in record.items() if tensor not in constants}
    owners: dict[str, str] = {}
    for tensor, value in activations.items():
        owners.setdefault(value.scale_name, tensor)  # those that share a scale are recorded behind its owner
    maker = {name: node for node in model.graph.node for name in node.output}
    # An output of the graph keeps its name behind DequantizeLinear; in front of QuantizeLinear it has another one.
    tensors = {maker[maker[value.q_name].input[0]].input[0]: tensor for tensor, value in activations.items()}
    quantized = tuple(
        QuantizedActivation(tensors[node.input[0]], node.output[0], node.input[1], node.input[2], owners[node.input[1]])
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] in tensors
    )
    rename_values(model.graph, names)
    return QuantizedGraph(
        model,
        tuple(
            replace(
                entry,
                tensor=names.get(entry.tensor, entry.tensor),
                scale_of=names.get(entry.scale_of, entry.scale_of),
                codes=names.get(entry.codes, entry.codes),
            )
            for entry in quantized
        ),
        {names.get(name, name): entry for name, entry in constants.items()},
    )
