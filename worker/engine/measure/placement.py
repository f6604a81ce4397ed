"""What ONNX Runtime really executes: the operators of the graph it optimized for this machine."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from app.spec.report import Placement
from app.spec.units import counted
from worker.engine.onnx_graph.file import graphs
from worker.engine.onnx_graph.sessions import session
from worker.engine.plan.selection import WEIGHTED

INTEGER = frozenset(
    {
        # convolutions whose sums are int32; quantized beforehand (QLinear*) or while running (*Integer, Dynamic*)
        "QLinearConv",
        "QLinearConvTranspose",
        "ConvInteger",
        # matrix products, likewise; the *ToFloat forms only scale the integer result
        "QLinearMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulInteger16",
        "DynamicQuantizeMatMul",
        "QGemm",
        # whole blocks made of integer matrix products
        "QAttention",
        "DynamicQuantizeLSTM",
        "QOrderedMatMul",
        "QOrderedAttention",
    }
)
"""Compute operators with integer kernels."""

FLOATING = frozenset(
    {
        # plain and fused convolutions; the blocked (nchwc) form has the same name in another domain
        "Conv",
        "ConvTranspose",
        "FusedConv",
        "NhwcFusedConv",
        "ConvTransposeWithDynamicPads",
        # plain and fused matrix products
        "MatMul",
        "Gemm",
        "FusedMatMul",
        "TransposeMatMul",
        "FusedGemm",
        "FusedMatMulActivation",
        "GemmFastGelu",
        "Einsum",
        # low-bit weights, but unpacked before a floating product (the default accuracy level)
        "MatMulNBits",
        "MatMulBnb4",
        # whole blocks made of floating matrix products
        "Attention",
        "MultiHeadAttention",
        "GroupQueryAttention",
        "PackedAttention",
        "LSTM",
        "GRU",
        "RNN",
    }
)
"""Compute operators with floating-point kernels. Everything in neither table moves or reshapes data."""

STRUCTURE_ONLY = {
    # Weights go to a side file, so that the graph stays small to read however large the model is.
    "session.optimized_model_external_initializers_file_name": "weights.bin",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    "session.disable_prepacking": "1",
}


def measure_placement(model: Path, threads: int, scratch: Path, *, blocked: bool = True) -> Placement:
    """Operators of the optimized graph, inner graphs included. Raises `LoadFailed`."""
    folder = scratch / "placement"
    folder.mkdir(parents=True, exist_ok=True)
    optimized = folder / "optimized.onnx"
    try:
        session(model, threads, optimized=optimized, config=STRUCTURE_ONLY, blocked=blocked)
        graph = onnx.load(str(optimized), load_external_data=False).graph
        counted = Counter(_operators(graph.node))
    finally:
        for leftover in folder.iterdir():
            leftover.unlink()
        folder.rmdir()
    return placement_of(counted)


def placement_of(counted: Counter[str]) -> Placement:
    """Sort operator counts into integer and floating compute; floating beside integer is a fallback."""
    operators = dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
    floating = {name: count for name, count in operators.items() if name in FLOATING}
    integer = sum(count for name, count in operators.items() if name in INTEGER)
    return Placement(
        operators=operators,
        integer=integer,
        floating=sum(floating.values()),
        fallback=floating if integer else {},
    )


def rounded_by_runtime(artifact: Path, placement: Placement) -> tuple[str, ...]:
    """A note if the runtime computes on integers what the file has in floating point.

    In the file, a layer is left in floating point if its weight is a float32 constant. What ONNX Runtime makes of
    others is as the file says: it rounds no product of two activations that were not rounded before.
    """
    graph = onnx.load(str(artifact), load_external_data=False).graph
    inner = list(graphs(graph))
    nodes = [node for graph in inner for node in graph.node]
    floats = {
        tensor.name for graph in inner for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT
    }
    may_be = sum(
        node.op_type in INTEGER or (node.op_type in WEIGHTED and floats.isdisjoint(node.input[1:2])) for node in nodes
    )
    rounded = placement.integer - may_be
    if rounded <= 0:
        return ()
    note = (
        f"ONNX Runtime computes {counted(rounded, 'layer')} on integers that the file leaves in floating point: it "
        "rounds their weights while it loads them, so that skipping them does not have its full effect."
    )
    return (note,)


def _operators(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _operators(inner.node)
