"""Scaled dot-product attention from its parts: a product, a scale, a mask, a softmax, a product."""

from dataclasses import dataclass, replace

from worker.engine.onnx_import.graph import Node
from worker.engine.onnx_import.operators.attention import FUSED
from worker.engine.onnx_import.patterns.view import View, either_way


@dataclass(frozen=True)
class _Scores:
    query: str
    key: str
    """Transposed: `[..., size, positions]`."""
    scale: float
    mask: str = ""


def attention(node: Node, view: View) -> tuple[Node, ...] | None:
    """`softmax(scale q k' + mask) v`."""
    if node.op != "MatMul":
        return None
    softmax = _softmax(node.inputs[0], view)
    scores = _scores(softmax.inputs[0], view) if softmax is not None else None
    if scores is None:
        return None
    key = _untransposed(scores.key, f"{node.outputs[0]}/key", node, view)
    if key is None:
        return None
    return (
        key,
        replace(
            node,
            op=FUSED,
            inputs=(scores.query, key.outputs[0], node.inputs[1], scores.mask),
            attributes={"scale": scores.scale},
        ),
    )


def _softmax(name: str, view: View) -> Node | None:
    """The softmax over the last axis, behind a dropout and a guard against rows that attend to nothing."""
    guarded = view.maker(name, "Where")
    if guarded is not None and view.maker(guarded.inputs[0], "IsNaN") and view.number(guarded.inputs[1]) == 0:
        name = guarded.inputs[2]
    while (passed := view.maker(name, "Dropout", "Identity")) is not None:
        name = passed.inputs[0]
    softmax = view.maker(name, "Softmax")
    if softmax is None:
        return None
    rank = view.ranks.get(softmax.inputs[0])
    axis = softmax.attributes.get("axis", -1)
    return softmax if axis == -1 or (rank is not None and axis == rank - 1) else None


def _scores(name: str, view: View) -> _Scores | None:
    total = view.maker(name, "Add")
    for product, mask in either_way(total) if total is not None else ():
        scores = _scaled(product, view)
        if scores is not None:
            return replace(scores, mask=mask)
    return _scaled(name, view) if total is None else None


def _scaled(name: str, view: View) -> _Scores | None:
    scale, factors = view.factors(name)
    product = view.maker(factors[0], "MatMul") if len(factors) == 1 else None
    if product is None or any(part in view.constants for part in product.inputs):
        return None
    (before, query), (other, key) = (view.factors(part) for part in product.inputs)
    if len(query) != 1 or len(key) != 1:
        return None
    return _Scores(query[0], key[0], scale * before * other)


def _untransposed(name: str, result: str, node: Node, view: View) -> Node | None:
    """A node for the keys as `[..., positions, size]`; numbers that scale them below the transposition stay there."""
    maker = view.maker(name, "Transpose")
    if maker is not None and "perm" in maker.attributes:
        perm = list(maker.attributes["perm"])
        source = maker.inputs[0]
    else:
        rank = view.ranks.get(name)
        if rank is None or rank < 3:
            return None
        perm, source = list(range(rank)), name
    perm[-1], perm[-2] = perm[-2], perm[-1]
    if perm == sorted(perm):
        return Node("Identity", node.version, f"{node.name}/key", (source,), (result,))
    return Node("Transpose", node.version, f"{node.name}/key", (source,), (result,), {"perm": perm})
