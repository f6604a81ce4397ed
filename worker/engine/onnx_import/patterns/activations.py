"""GELU, SiLU, hard swish and Mish, which exporters write out as products."""

import math
from dataclasses import replace

from worker.engine.onnx_import.graph import Node
from worker.engine.onnx_import.patterns.view import View, either_way

CUBE = 0.044715
GATES = ("Sigmoid", "HardSigmoid", "Tanh")


def gelu(node: Node, view: View) -> Node | None:
    """`x (1 + erf(x / sqrt 2)) / 2`, or by tanh, however the product is nested."""
    if node.op not in ("Mul", "Div"):
        return None
    scale, factors = view.factors(node.outputs[0])
    if not math.isclose(scale, 0.5, rel_tol=1e-3) or len(factors) != 2:
        return None
    for value, gate in (factors, factors[::-1]):
        inner = _one_more(gate, view)
        if inner is None:
            continue
        if inner.op == "Erf" and _is_scaled(inner.inputs[0], value, math.sqrt(0.5), view):
            return _activation(node, "Gelu", value)
        if inner.op == "Tanh" and _is_cubic(inner.inputs[0], value, view):
            return _activation(node, "Gelu", value, approximate="tanh")
    return None


def _one_more(name: str, view: View) -> Node | None:
    """The node whose result and 1 are added."""
    total = view.maker(name, "Add")
    if total is None:
        return None
    for first, second in either_way(total):
        if view.is_number(second, 1.0):
            return view.maker(first, "Erf", "Tanh")
    return None


def _is_scaled(name: str, value: str, scale: float, view: View) -> bool:
    have, factors = view.factors(name)
    return factors == [value] and math.isclose(have, scale, rel_tol=1e-3)


def _is_cubic(name: str, value: str, view: View) -> bool:
    """`sqrt(2 / pi) (x + 0.044715 x^3)`, or with one x before the brackets."""
    scale, factors = view.factors(name)
    if not math.isclose(scale, math.sqrt(2 / math.pi), rel_tol=1e-3):
        return False
    inside = [factor for factor in factors if factor != value]
    total = view.maker(inside[0], "Add") if len(inside) == 1 else None
    if total is None:
        return False
    power = 2 if value in factors else 3
    for first, second in either_way(total):
        begins = view.is_number(first, 1.0) if power == 2 else first == value
        if begins and _is_power(second, value, power, view):
            return True
    return False


def _is_power(name: str, value: str, power: int, view: View) -> bool:
    """`0.044715 x^power`."""
    scale, factors = view.factors(name)
    if not math.isclose(scale, CUBE, rel_tol=1e-3):
        return False
    if factors == [value] * power:
        return True
    node = view.maker(factors[0], "Pow") if len(factors) == 1 else None
    return node is not None and node.inputs[0] == value and view.is_number(node.inputs[1], power)


def gated(node: Node, view: View) -> Node | None:
    """`x sigmoid(x)`, `x hardsigmoid(x)`, `x tanh(softplus(x))`."""
    if node.op != "Mul":
        return None
    for value, gate in either_way(node):
        maker = view.maker(gate, *GATES)
        if maker is None:
            continue
        if maker.op == "Sigmoid":
            scale, factors = view.factors(maker.inputs[0], 1)
            if factors == [value]:
                return _activation(node, "Swish", value, alpha=scale)
        if maker.op == "HardSigmoid" and maker.inputs[0] == value and _is_sixth(maker):
            return _activation(node, "HardSwish", value)
        soft = view.maker(maker.inputs[0], "Softplus") if maker.op == "Tanh" else None
        if soft is not None and soft.inputs[0] == value:
            return _activation(node, "Mish", value)
    return None


def _is_sixth(node: Node) -> bool:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return math.isclose(alpha, 1 / 6, rel_tol=1e-3) and beta == 0.5


def hard_swish(node: Node, view: View) -> Node | None:
    """`x clip(x + 3, 0, 6) / 6`."""
    if node.op not in ("Mul", "Div"):
        return None
    scale, factors = view.factors(node.outputs[0])
    if not math.isclose(scale, 1 / 6, rel_tol=1e-3) or len(factors) != 2:
        return None
    for value, gate in (factors, factors[::-1]):
        if _is_clipped(gate, value, view):
            return _activation(node, "HardSwish", value)
    return None


def hard_sigmoid(node: Node, view: View) -> Node | None:
    """`clip(x + 3, 0, 6) / 6`."""
    if node.op not in ("Mul", "Div"):
        return None
    scale, factors = view.factors(node.outputs[0], 1)
    if not math.isclose(scale, 1 / 6, rel_tol=1e-3) or len(factors) != 1:
        return None
    clipped = view.maker(factors[0], "Clip")
    moved = view.maker(clipped.inputs[0], "Add") if clipped is not None else None
    for value in moved.inputs if moved is not None else ():
        if view.number(value) is None and _is_clipped(factors[0], value, view):
            return _activation(node, "HardSigmoid", value, alpha=1 / 6, beta=0.5)
    return None


def _is_clipped(name: str, value: str, view: View) -> bool:
    clipped = view.maker(name, "Clip")
    if clipped is None or len(clipped.inputs) != 3 or view.number(clipped.inputs[1]) != 0:
        return False
    moved = view.maker(clipped.inputs[0], "Add")
    if moved is None or not view.is_number(clipped.inputs[2], 6.0):
        return False
    return any(first == value and view.is_number(second, 3.0) for first, second in either_way(moved))


def _activation(node: Node, op: str, value: str, **attributes: object) -> Node:
    return replace(node, op=op, version=24, inputs=(value,), attributes=attributes)
