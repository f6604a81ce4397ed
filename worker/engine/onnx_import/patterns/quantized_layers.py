"""Layers in integers as what they compute: numbers out of codes, the layer in floats, codes out of numbers.

Their weights become floats that can be trained; `fold` computes them.
"""

from worker.engine.onnx_import.graph import Node
from worker.engine.onnx_import.operators.products import LINEAR
from worker.engine.onnx_import.operators.quantization import weight_of_bits
from worker.engine.onnx_import.patterns.view import View

LAYERS = ("QLinearConv", "QLinearMatMul", "com.microsoft.QGemm", "com.microsoft.QLinearConv")
OPSET = 21


def integer_layer(node: Node, view: View) -> tuple[Node, ...] | None:
    """One of these layers with a constant weight."""
    if node.op not in LAYERS or node.inputs[3] not in view.constants:
        return None
    if node.op.endswith("MatMul"):
        return _layer(node, "MatMul", axes=(0, 1))
    if node.op.endswith("QGemm"):
        axis = 0 if node.attributes.get("transB") else 1
        return _layer(node, "Gemm", axes=(0, axis), bias=6, result=7)
    return _layer(node, "Conv", axes=(1, 0), bias=8)


def _layer(node: Node, op: str, axes: tuple[int, int], bias: int = 99, result: int = 6) -> tuple[Node, ...]:
    inputs = (*node.inputs, *[""] * (9 - len(node.inputs)))
    base = node.outputs[0]
    value, weight, added = f"{base}/value", f"{base}/weight", f"{base}/bias"
    nodes = [
        _from_codes(inputs[0:3], value, axes[0]),
        _from_codes(inputs[3:6], weight, axes[1]),
    ]
    given = [value, weight]
    if bias < len(inputs) and inputs[bias]:
        nodes.append(Node("Mul", OPSET, f"{base}/unit", (inputs[1], inputs[4]), (f"{base}/unit",)))
        nodes.append(_from_codes((inputs[bias], f"{base}/unit", ""), added, 0))
        given.append(added)
    attributes = {key: value for key, value in node.attributes.items() if key != "channels_last"}
    if not inputs[result]:
        return (*nodes, Node(op, OPSET, node.name, tuple(given), node.outputs, attributes))
    middle = f"{base}/real"
    nodes.append(Node(op, OPSET, node.name, tuple(given), (middle,), attributes))
    last = tuple(name for name in (middle, inputs[result], inputs[result + 1]) if name)
    return (*nodes, Node("QuantizeLinear", OPSET, node.name, last, node.outputs))


def _from_codes(names: tuple[str, ...], result: str, axis: int) -> Node:
    inputs = tuple(names) if names[2] else tuple(names[:2])
    return Node("DequantizeLinear", OPSET, result, inputs, (result,), {"axis": axis})


def weight_in_bits(node: Node, view: View) -> Node | None:
    """A fully connected layer whose weight is stored in a few bits."""
    if node.op != "com.microsoft.MatMulNBits" or not view.is_own(node.inputs[1]):
        return None
    inputs = (*node.inputs, *[""] * (6 - len(node.inputs)))
    if inputs[4] or any(name and name not in view.constants for name in inputs[1:4]):
        return None
    arrays = [view.constants[name] if name else None for name in inputs[1:4]]
    view.replace(inputs[1], weight_of_bits(node, arrays))
    return Node(
        LINEAR, OPSET, node.name, tuple(name for name in (inputs[0], inputs[1], inputs[5]) if name), node.outputs
    )
