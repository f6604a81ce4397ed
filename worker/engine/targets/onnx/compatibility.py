"""ONNX Runtime: kernels by its registry, integers by the placement of `quantize.static` and the target's profile."""

from collections.abc import Iterator

import onnx
from onnx import ModelProto, NodeProto

from app.spec.compatibility import Compatibility
from app.spec.targets import OnnxTarget
from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.onnx_graph.file import graphs
from worker.engine.onnx_graph.types import inferred
from worker.engine.targets.onnx import kernels
from worker.engine.targets.support.base import Look, Tally, table
from worker.engine.targets.support.quantizing import SOURCE, Quantizing


def onnx_compatibility(targets: tuple[OnnxTarget, ...], look: Look) -> Iterator[Compatibility]:
    """Every node of the graph, inner graphs included."""
    model = onnx.load(look.model.graph, load_external_data=False)
    types, _ = inferred(model)
    for target in targets:
        tally, quantizing = Tally(), Quantizing(model, types, PROFILES[target.profile].operators)
        for node in nodes(model):
            status, why = kernels.runs(model, node, types)
            obstacle = quantizing.obstacle(node) if status == "supported" else None
            if obstacle is None:
                promise = quantizing.promise(node) if status == "supported" else ""
                tally.add(named(node), status, why or promise, kernels.SOURCE)
            else:
                tally.add(named(node), "not_quantizable", obstacle, SOURCE)
        yield table(target, tally)


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every node, those of inner graphs included."""
    return (node for graph in graphs(model.graph) for node in graph.node)


def named(node: NodeProto) -> str:
    """The operator's qualified name."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
