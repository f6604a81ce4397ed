"""Layers with weights: convolutions, matrix products, embeddings. They end one set of channels and begin another."""

import numpy as np

from worker.engine.pruning.channels.call import Call, NoRule, Value
from worker.engine.pruning.channels.channel_classes import Dims, Labels, frozen
from worker.engine.pruning.channels.edit import Edit
from worker.engine.pruning.channels.rules.base import Rewrite, Rule, by_operator
from worker.engine.pruning.channels.rules.elementwise import broadcast

CONVOLUTIONS = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
FEW_GROUPS = 4
"""So few groups are too coarse to be removed as a whole."""


def convolution(call: Call) -> Value:
    """Input channels of the weight follow the input, output channels follow the weight; with groups, see `_grouped`.

    The positions it slides over stay: what a neighbour's weight reads cannot be zero for another.
    """
    transposed = "transpose" in call.kind
    image, weight, classes = call.labels("input"), call.labels("weight"), call.classes
    groups, axis = call.integer("groups"), len(image) - len(weight) + 1
    name = call.weight(call["weight"])
    if name is None:
        raise NoRule("a weight that depends on the input")
    channels = image[axis]
    classes.freeze(*weight[2:])
    call.freeze("it slides over them", *image[axis + 1 :])
    if groups == 1:
        incoming, out = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
        classes.tie(channels, incoming)
    else:
        out = _grouped(call, channels, weight, groups, transposed=transposed)
    bias = call.labels_of(call["bias"])
    if bias is not None:
        classes.tie(out, bias[0])
    call.produces(name, out)
    return (*image[:axis], out, *(frozen(size) for size in call.shape[axis + 1 :]))


def _grouped(call: Call, channels: Labels, weight: Dims, groups: int, *, transposed: bool) -> Labels:
    """The output channels of a grouped convolution, whose groups keep one size.

    Where groups are few, the same position goes in each of them; else a group goes as a whole.
    """
    classes = call.classes
    if _same_in_each_group(call):
        incoming = _by_position(call, channels, groups)
        if transposed:
            classes.tie(channels, weight[0])
            return np.tile(weight[1], groups)
        classes.tie(incoming, weight[1])
        _by_position(call, weight[0], groups)
        return weight[0]
    classes.freeze(weight[1])
    if transposed:
        classes.tie(channels, weight[0])
        return np.repeat(_by_group(call, weight[0], groups), call.shape[1 - len(weight)] // groups)
    _by_group(call, channels, groups)
    classes.union(_by_group(call, weight[0], groups), channels.reshape(groups, -1)[:, 0])
    return weight[0]


def fewer_groups(call: Call, edit: Edit) -> None:
    """Whole groups are gone, unless each lost the same."""
    image, groups = call.labels("input"), call.integer("groups")
    channels = image[1 - len(call.labels("weight"))]
    if groups > 1 and edit.shrinks(channels) and not _same_in_each_group(call):
        edit.set("groups", groups * edit.left(channels) // len(channels))


def _same_in_each_group(call: Call) -> bool:
    """Whether groups are few and hold several channels on both sides."""
    groups, axis = call.integer("groups"), 1 - len(call.labels("weight"))
    return groups <= FEW_GROUPS and len(call.labels("input")[axis]) > groups and call.shape[axis] > groups


def _by_group(call: Call, labels: Labels, groups: int) -> Labels:
    """One label for each group, whose members are tied."""
    members = labels.reshape(groups, -1)
    call.classes.union(members, members[:, :1])
    return members[:, 0]


def _by_position(call: Call, labels: Labels, groups: int) -> Labels:
    """One label for each position in a group, tied to the same in every other."""
    members = labels.reshape(groups, -1)
    call.classes.union(members, members[:1])
    return members[0]


def linear(call: Call) -> Value:
    """A weighted sum over the last dimension."""
    rows, weight = call.labels("input"), call.labels("weight")
    out = weight[0] if len(weight) == 2 else frozen(1)
    name = _contract(call, rows[-1], weight[-1], call["weight"])
    bias = call.labels_of(call["bias"])
    if bias is not None and len(weight) == 2:
        call.classes.tie(out, bias[0])
    call.produces(name, out)
    return (*rows[:-1], out) if len(weight) == 2 else rows[:-1]


def matmul(call: Call) -> Value:
    """A product of two tensors, one of which may be a weight."""
    second = "mat2" if call.kind != "matmul" else "other"
    return _product(call, call.labels("self"), call.labels(second), call[second])


def addmm(call: Call) -> Value:
    """A product and a term that is added to it."""
    first, second = ("mat1", "mat2") if call.kind == "addmm" else ("batch1", "batch2")
    product = _product(call, call.labels(first), call.labels(second), call[second])
    return broadcast(call.classes, call.shape, [product, call.labels("self")])


def embedding(call: Call) -> Value:
    """Rows of a table by their number: its columns are channels."""
    table, places = call.labels("weight"), call.labels("indices")
    call.classes.freeze(table[0], *places)
    call.produces(call.weight(call["weight"]), table[1])
    return (*(frozen(len(place)) for place in places), table[1])


def attention(call: Call) -> Value:
    """Heads may go; the size of a head may not, for it is part of the scale, and neither may positions."""
    query, key, value = call.labels("query"), call.labels("key"), call.labels("value")
    mask, classes = call.labels_of(call["attn_mask"]), call.classes
    call.freeze("a head's size is part of its scale", query[-1], key[-1])
    call.freeze("a softmax is taken over them", query[-2], key[-2], value[-2])
    leading = broadcast(classes, call.shape[:-2], [query[:-2], key[:-2], value[:-2]])
    if mask is not None:
        call.freeze("a softmax is taken over them", *mask[-2:])
        broadcast(classes, call.shape[:-2], [leading, mask[:-2]])
    if any(len(operand[axis]) != len(query[axis]) for operand in (key, value) for axis in range(len(query) - 2)):
        call.freeze("heads share keys", *query, *key, *value)
    call.heads.extend(leading)
    return (*leading, query[-2], value[-1])


def _product(call: Call, left: Dims, right: Dims, second: object) -> Dims:
    if len(left) < 2 or len(right) < 2:
        raise NoRule("a product with a vector")
    first = call.node.args[0] if call.node.args else None
    if call.weight(first) is None and call.weight(second) is None:
        call.heads.extend(left[:-2])
    name = _contract(call, left[-1], right[-2], second, first)
    call.produces(name, right[-1])
    leading = broadcast(call.classes, call.shape[:-2], [left[:-2], right[:-2]])
    return (*leading, left[-2], right[-1])


def _contract(call: Call, ones: np.ndarray, others: np.ndarray, *candidates: object) -> str | None:
    """Tie what is summed over. Two activations must keep it: their products need not vanish where a weight's do."""
    names = [call.weight(candidate) for candidate in candidates]
    if any(names):
        call.classes.tie(ones, others)
    else:
        call.freeze("it sums over products of two activations", ones, others)
    return names[0]


RULES: dict[str, Rule] = by_operator(
    {
        CONVOLUTIONS: convolution,
        "linear": linear,
        "matmul mm bmm": matmul,
        "addmm baddbmm": addmm,
        "embedding": embedding,
        "scaled_dot_product_attention": attention,
    }
)

REWRITES: dict[str, Rewrite] = by_operator(
    {
        CONVOLUTIONS: fewer_groups,
    }
)
