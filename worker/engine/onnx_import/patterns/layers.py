"""Layers with their weights as PyTorch lays them out: fully connected and recurrent ones."""

from dataclasses import replace

import numpy as np

from worker.engine.onnx_import.graph import Node
from worker.engine.onnx_import.operators.products import LINEAR
from worker.engine.onnx_import.operators.recurrent import DEFAULTS, PACKED
from worker.engine.onnx_import.patterns.view import View, either_way
from worker.engine.onnx_import.weights import GENERATED

GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where torch's gates stand in ONNX's order: of iofc torch wants ifgo, of zrh it wants rzn."""
STATE_INPUTS = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}


def linear(node: Node, view: View) -> Node | None:
    """A product with a constant matrix, whose weight is turned around unless others read it, too."""
    if node.op == "MatMul":
        weight = _turned(node.inputs[1], view)
        return None if weight is None else _linear(node, node.inputs[0], weight)
    if node.op != "Gemm" or any(node.attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    if node.attributes.get("transA") or (len(node.inputs) > 2 and not _is_bias(node.inputs[2], view)):
        return None
    matrix = view.array(node.inputs[1])
    weight = node.inputs[1] if node.attributes.get("transB") and matrix is not None else None
    weight = weight if node.attributes.get("transB") else _turned(node.inputs[1], view)
    if weight is None or (len(node.inputs) > 2 and node.inputs[2] and not _fits(node.inputs[2], weight, view)):
        return None
    return _linear(node, node.inputs[0], weight, *(name for name in node.inputs[2:] if name))


def bias(node: Node, view: View) -> Node | None:
    """The vector that is added to such a product."""
    if node.op != "Add":
        return None
    for product, vector in either_way(node):
        maker = view.maker(product, LINEAR)
        array = view.array(vector)
        if maker is None or len(maker.inputs) > 2 or array is None or array.ndim != 1:
            continue
        if _fits(vector, maker.inputs[1], view):
            weight = _named_like(vector, maker.inputs[1], view)
            inputs = (maker.inputs[0], weight, vector)
            return replace(maker, name=maker.name or node.name, inputs=inputs, outputs=node.outputs)
    return None


def _named_like(vector: str, weight: str, view: View) -> str:
    """The name of a weight: where an exporter made one up, and the bias has its own, that of the layer."""
    wanted = f"{vector.removesuffix('.bias')}.weight"
    generated = weight.startswith(GENERATED) and vector.endswith(".bias") and not vector.startswith(GENERATED)
    if not generated or wanted in view.constants or not view.is_own(weight):
        return weight
    view.replace(wanted, view.graph.constants.pop(weight))
    return wanted


def _linear(node: Node, value: str, weight: str, *rest: str) -> Node:
    return replace(node, op=LINEAR, inputs=(value, weight, *rest), attributes={})


def _turned(name: str, view: View) -> str | None:
    """The weight `[outputs, inputs]` of a factor `[inputs, outputs]`."""
    turned = view.maker(name, "Transpose")
    if turned is not None:
        source = view.array(turned.inputs[0])
        return turned.inputs[0] if source is not None and source.ndim == 2 and _is_float(source) else None
    array = view.array(name)
    if array is None or array.ndim != 2 or not view.is_own(name) or not _is_float(array):
        return None
    view.replace(name, np.ascontiguousarray(array.T))
    return name


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _is_bias(name: str, view: View) -> bool:
    """Whether it is one vector; a row of a matrix is made one."""
    array = view.array(name)
    if not name:
        return True
    if array is not None and array.ndim == 2 and array.shape[0] == 1 and view.is_own(name):
        view.replace(name, array.reshape(-1))
        return True
    return array is not None and array.ndim == 1


def _fits(vector: str, weight: str, view: View) -> bool:
    return bool(view.constants[vector].shape == view.constants[weight].shape[:1])


def recurrent(node: Node, view: View) -> Node | None:
    """A recurrent layer that torch has as one operator: constant weights, the usual activations, rows of one length."""
    if node.op not in GATES or not _is_usual(node):
        return None
    inputs = (*node.inputs, *[""] * (8 - len(node.inputs)))
    names = inputs[1:4]
    arrays = [view.array(name) for name in names]
    if arrays[0] is None or arrays[1] is None or (names[2] and arrays[2] is None):
        return None
    weights: list[str] = []
    for direction in range(arrays[0].shape[0]):
        weights += _direction(node.op, names, arrays, direction, view)
    states = [inputs[place] for place in STATE_INPUTS[node.op]]
    attributes = {**node.attributes, "hidden_size": int(arrays[1].shape[-1])}
    return replace(node, op=f"{PACKED}{node.op}", inputs=(inputs[0], *states, *weights), attributes=attributes)


def _is_usual(node: Node) -> bool:
    attributes = node.attributes
    given = [name.lower() for name in attributes.get("activations") or []]
    usual = [name.lower() for name in DEFAULTS[node.op]]
    activations = not given or given[: len(usual)] == usual or (node.op == "RNN" and set(given) == {"relu"})
    alike = len(given) <= len(usual) or given[: len(usual)] == given[len(usual) :]
    lengths = len(node.inputs) > 4 and node.inputs[4] != ""
    peephole = len(node.inputs) > 7 and node.inputs[7] != ""
    after = node.op != "GRU" or attributes.get("linear_before_reset", 0) == 1
    return (
        activations
        and alike
        and after
        and not (lengths or peephole or attributes.get("clip") or attributes.get("input_forget"))
    )


def _direction(
    kind: str, names: tuple[str, ...], arrays: list[np.ndarray | None], direction: int, view: View
) -> list[str]:
    """New constants for one direction, in torch's order: input, state, and their biases if there are any."""
    both = arrays[0] is not None and arrays[0].shape[0] > 1
    ending = (".forward", ".backward")[direction] if both else ""
    made = []
    for name, array in zip(names, arrays, strict=True):
        if array is None:
            continue
        matrix = array[direction]
        parts = (
            {"": matrix} if matrix.ndim == 2 else dict(zip((".input", ".state"), matrix.reshape(2, -1), strict=True))
        )
        for part, gates in parts.items():
            new = f"{name}{ending}{part}" if both or part else f"{name}"
            new = new if new not in view.constants or view.is_own(new) else f"{new}.{kind}"
            made.append((new, _in_order(kind, gates)))
    for new, gates in made:
        view.replace(new, gates)
    return [new for new, _ in made]


def _in_order(kind: str, gates: np.ndarray) -> np.ndarray:
    order = GATES[kind]
    parts = gates.reshape(len(order), -1, *gates.shape[1:])
    return np.ascontiguousarray(parts[list(order)].reshape(gates.shape))
