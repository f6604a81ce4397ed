"""Operators that ONNX Runtime's optimizers fused, in parts again, so that layers and attention are recognised."""

import numpy as np

from worker.engine.onnx_import.graph import Node
from worker.engine.onnx_import.patterns.view import View

OPSET = 20


def product(node: Node, view: View) -> tuple[Node, ...] | None:
    """A product of factors that are transposed, and scaled."""
    if node.op not in ("com.microsoft.FusedMatMul", "com.microsoft.TransposeMatMul"):
        return None
    attributes, result = node.attributes, node.outputs[0]
    if attributes.get("transBatchA") or attributes.get("transBatchB"):
        return None
    nodes: list[Node] = []
    factors = []
    for name, side in zip(node.inputs, "AB", strict=True):
        rank = view.ranks.get(name, np.ndim(view.constants[name]) if name in view.constants else None)
        if not attributes.get(f"trans{side}"):
            factors.append(name)
            continue
        if rank is None or rank < 2:
            return None
        perm = [*range(rank - 2), rank - 1, rank - 2]
        factors.append(f"{result}/{side}")
        nodes.append(Node("Transpose", OPSET, factors[-1], (name,), (factors[-1],), {"perm": perm}))
    alpha = attributes.get("alpha", 1.0)
    if alpha == 1:
        return (*nodes, Node("MatMul", OPSET, node.name, tuple(factors), node.outputs))
    view.replace(f"{result}/alpha", np.array(alpha, np.float32))
    unscaled = f"{result}/unscaled"
    nodes.append(Node("MatMul", OPSET, node.name, tuple(factors), (unscaled,)))
    return (*nodes, Node("Mul", OPSET, node.name, (unscaled, f"{result}/alpha"), node.outputs))


def bias_before_gelu(node: Node, view: View) -> tuple[Node, ...] | None:
    """A bias, which may be that of a layer, and the activation behind it."""
    if node.op not in ("com.microsoft.BiasGelu", "com.microsoft.FastGelu") or len(node.inputs) != 2:
        return None
    approximate = {"approximate": "tanh"} if node.op.endswith("FastGelu") else {}
    total = f"{node.outputs[0]}/biased"
    if not all(node.inputs) or total in view.makers:
        return None
    return (
        Node("Add", OPSET, node.name, node.inputs, (total,)),
        Node("Gelu", OPSET, node.name, (total,), node.outputs, dict(approximate)),
    )
