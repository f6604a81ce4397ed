"""What TensorRT requires of an ONNX graph, checked without TensorRT: one function a rule, in three files by subject.

A rule looks at one node, or at one graph, and yields what breaks it. Each names its source in its docstring:
"operators.md" is that of onnx-tensorrt (https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md), "checkers"
its `builtin_op_static_checkers.cpp`, "quantized types" and "opsets" are chapters of NVIDIA's TensorRT documentation
(https://docs.nvidia.com/deeplearning/tensorrt/latest, "Working with Quantized Types", "ONNX Opset Guide").
"""

from onnx import ModelProto

from worker.engine.errors import EngineError
from worker.engine.targets.tensorrt.releases import Release
from worker.engine.targets.tensorrt.rules import graph, operators, quantization
from worker.engine.targets.tensorrt.rules.view import Violation, views


class RuleViolated(EngineError):
    """The lowered model breaks a rule of the target's runtime."""

    code = "target.rule_violated"
    remedy = "Put the node named in the detail on the step's skip list."


GRAPH_RULES = (graph.known_opset,)
NODE_RULES = (*graph.NODE_RULES, *quantization.NODE_RULES, *operators.NODE_RULES)
MOST_TOLD = 5


def violations(model: ModelProto, release: Release) -> list[Violation]:
    """Everything in the graph, its inner graphs included, that the release would refuse."""
    broken = [violation for rule in GRAPH_RULES for violation in rule(model, release)]
    for view in views(model, release):
        broken += [violation for value in graph.VALUE_RULES for violation in value(view)]
        broken += [violation for node in view.graph.node for rule in NODE_RULES for violation in rule(view, node)]
    return broken


def require_rules(model: ModelProto, release: Release) -> None:
    """Raise `RuleViolated`, which tells the first broken rules and the first one's remedy."""
    broken = violations(model, release)
    if not broken:
        return
    details = " ".join(dict.fromkeys(violation.detail for violation in broken[:MOST_TOLD]))
    more = f" And {len(broken) - MOST_TOLD} more." if len(broken) > MOST_TOLD else ""
    raise RuleViolated(f"{release.title} does not take this model. {details}{more}", remedy=broken[0].remedy)
