"""TensorRT: its rules and NVIDIA's table of operators, node by node."""

from collections.abc import Iterator

import onnx
from onnx import NodeProto

from app.spec.compatibility import Compatibility
from app.spec.targets import TensorRtTarget
from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.onnx_graph.types import inferred
from worker.engine.targets.onnx.compatibility import named
from worker.engine.targets.support.base import Look, Tally, table
from worker.engine.targets.support.quantizing import SOURCE as PLACEMENT
from worker.engine.targets.support.quantizing import Quantizing
from worker.engine.targets.tensorrt.decompose import WRITTEN_OUT
from worker.engine.targets.tensorrt.operators import table as operator_table
from worker.engine.targets.tensorrt.releases import RELEASES
from worker.engine.targets.tensorrt.rules import NODE_RULES
from worker.engine.targets.tensorrt.rules.graph import VALUE_RULES, known_opset
from worker.engine.targets.tensorrt.rules.view import View, Violation, called, views

SOURCE = f"onnx-tensorrt {operator_table().version} operators.md and TensorRT's rules"


def tensorrt_compatibility(targets: tuple[TensorRtTarget, ...], look: Look) -> Iterator[Compatibility]:
    """Every node of the graph, as the release's parser would take it."""
    model = onnx.load(look.model.graph)
    types, _ = inferred(model)
    quantizing = Quantizing(model, types, PROFILES["tensorrt"].operators)
    for target in targets:
        release, tally, notes = RELEASES[target.profile], Tally(), []
        for view in views(model, release):
            for node in view.graph.node:
                _count(tally, view, node, quantizing)
            notes += [violation.detail for rule in VALUE_RULES for violation in rule(view)]
        opset = [violation.detail for violation in known_opset(model, release)]
        yield table(target, tally, opset[0] if opset else None, tuple(dict.fromkeys(notes))[:50])


def _count(tally: Tally, view: View, node: NodeProto, quantizing: Quantizing) -> None:
    violations = [violation for rule in NODE_RULES for violation in rule(view, node)]
    obstacle = quantizing.obstacle(node)
    known = operator_table().operators.get(node.op_type)
    if violations and known is not None and node.op_type in WRITTEN_OUT and known.since > view.release.oldest:
        tally.add(named(node), "falls_back", "It is written out in operators that the release reads.", SOURCE)
    elif violations:
        tally.add(named(node), "unsupported", _reason(violations[0], node), SOURCE)
    elif obstacle is not None:
        tally.add(named(node), "not_quantizable", obstacle, PLACEMENT)
    else:
        tally.add(named(node), "supported", quantizing.promise(node), SOURCE)


def _reason(violation: Violation, node: NodeProto) -> str:
    """What is wrong, without the name of the node: nodes with one fault are counted together."""
    return violation.detail.removeprefix(f"{called(node)}: ").removeprefix(f"Node {node.name}: ")
