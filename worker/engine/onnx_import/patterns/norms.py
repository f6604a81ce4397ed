"""Layer norm, RMS norm and group norm, which exporters write out."""

from dataclasses import dataclass, replace

import numpy as np

from worker.engine.onnx_import.graph import Node
from worker.engine.onnx_import.patterns.view import View, either_way


@dataclass(frozen=True)
class _Normal:
    """A value divided by the root of its mean square over the last axis."""

    value: str
    centered: bool
    epsilon: float


def layer_norm(node: Node, view: View) -> Node | None:
    """Of the last axis, with a scale and perhaps a bias."""
    if node.op == "Add":
        for scaled, bias in either_way(node):
            product = view.maker(scaled, "Mul")
            if product is None or not _is_vector(bias, view):
                continue
            for normal, scale in either_way(product):
                normalized = _normal(normal, view) if _is_vector(scale, view) else None
                if normalized is not None and normalized.centered:
                    return _norm(node, "LayerNormalization", normalized, scale, bias)
    if node.op == "Mul":
        for normal, scale in either_way(node):
            normalized = _normal(normal, view) if _is_vector(scale, view) else None
            if normalized is not None:
                operator = "LayerNormalization" if normalized.centered else "RMSNormalization"
                return _norm(node, operator, normalized, scale)
    return None


def bias_of_norm(node: Node, view: View) -> Node | None:
    """A bias that is added to a layer norm without one."""
    if node.op != "Add":
        return None
    for normal, bias in either_way(node):
        maker = view.maker(normal, "LayerNormalization")
        if maker is not None and len(maker.inputs) == 2 and len(maker.outputs) == 1 and _is_vector(bias, view):
            return replace(maker, name=node.name, inputs=(*maker.inputs, bias), outputs=node.outputs)
    return None


def _norm(node: Node, op: str, normalized: _Normal, *affine: str) -> Node:
    attributes = {"axis": -1, "epsilon": normalized.epsilon}
    return replace(node, op=op, version=23, inputs=(normalized.value, *affine), attributes=attributes)


def _is_vector(name: str, view: View) -> bool:
    array = view.array(name)
    return array is not None and array.ndim == 1 and array.size > 1


def _normal(name: str, view: View) -> _Normal | None:
    quotient = view.maker(name, "Div")
    if quotient is not None:
        return _by_root(quotient.inputs[0], quotient.inputs[1], view)
    product = view.maker(name, "Mul")
    if product is None:
        return None
    for value, inverse in either_way(product):
        reciprocal = view.maker(inverse, "Reciprocal", "Div")
        if reciprocal is None or (reciprocal.op == "Div" and not view.is_number(reciprocal.inputs[0], 1.0)):
            continue
        normalized = _by_root(value, reciprocal.inputs[-1], view)
        if normalized is not None:
            return normalized
    return None


def _by_root(value: str, root: str, view: View) -> _Normal | None:
    """`value` over `sqrt(mean(value^2) + epsilon)`."""
    maker = view.maker(root, "Sqrt", "Pow")
    if maker is None or (maker.op == "Pow" and not view.is_number(maker.inputs[1], 0.5)):
        return None
    total = view.maker(maker.inputs[0], "Add")
    for square, added in either_way(total) if total is not None else ():
        epsilon = view.number(added)
        if epsilon is None:
            continue
        centers = _mean_square(square, view)
        if centers is None:
            continue
        center, squared = _center(value, view), _center(centers, view)
        if center is not None and center == squared:
            return _Normal(center, centered=True, epsilon=epsilon)
        if centers == value:
            return _Normal(value, centered=False, epsilon=epsilon)
    return None


def _mean_square(name: str, view: View) -> str | None:
    """The value of whose square this is the mean over the last axis."""
    mean = view.maker(name, "ReduceMean")
    if mean is None or view.axes(mean) != (-1,) or not mean.attributes.get("keepdims", 1):
        return None
    square = view.maker(mean.inputs[0], "Pow", "Mul")
    if square is None:
        return None
    if square.op == "Pow":
        return square.inputs[0] if view.is_number(square.inputs[1], 2.0) else None
    return square.inputs[0] if square.inputs[0] == square.inputs[1] else None


def _center(name: str, view: View) -> str | None:
    """The value of which a difference subtracts the mean over the last axis."""
    difference = view.maker(name, "Sub")
    mean = view.maker(difference.inputs[1], "ReduceMean") if difference is not None else None
    if difference is None or mean is None or mean.inputs[0] != difference.inputs[0]:
        return None
    return mean.inputs[0] if view.axes(mean) == (-1,) and mean.attributes.get("keepdims", 1) else None


def group_norm(node: Node, view: View) -> Node | None:
    """Groups that an instance norm takes for channels, then a scale and a bias of the true channels."""
    if node.op != "Add":
        return None
    for scaled, bias in either_way(node):
        product = view.maker(scaled, "Mul")
        for back, scale in either_way(product) if product is not None else ():
            if not (_is_channels(scale, view) and _is_channels(bias, view)):
                continue
            reshaped = view.maker(back, "Reshape")
            norm = view.maker(reshaped.inputs[0], "InstanceNormalization") if reshaped is not None else None
            grouped = view.maker(norm.inputs[0], "Reshape") if norm is not None else None
            if norm is None or grouped is None or not _is_plain(norm, view):
                continue
            groups = view.constants[norm.inputs[1]].size
            for name in {scale, bias}:
                view.replace(name, view.constants[name].reshape(-1))
            return replace(
                node,
                op="GroupNormalization",
                version=21,
                inputs=(grouped.inputs[0], scale, bias),
                attributes={"num_groups": groups, "epsilon": norm.attributes.get("epsilon", 1e-5)},
            )
    return None


def _is_channels(name: str, view: View) -> bool:
    """`[channels, 1, 1]`, or with a 1 in front."""
    array = view.array(name)
    if array is None or not view.is_own(name) or array.ndim < 2:
        return False
    sizes = array.shape[1:] if array.shape[0] == 1 else array.shape
    return array.size == sizes[0]


def _is_plain(norm: Node, view: View) -> bool:
    scale, bias = (view.array(name) for name in norm.inputs[1:3])
    return scale is not None and bias is not None and bool(np.all(scale == 1)) and bool(np.all(bias == 0))
