"""A Keras model's traced graph, made what PyTorch's own exporter would have written for such a network.

Keras keeps variables beside the module, kernels in TensorFlow's order and channels last, so that the tracer sees its
weights as constants and every layer between two transpositions. Here weights become parameters, in PyTorch's order;
biases and kernels go into the layers; transpositions move down the graph until they cancel.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

aten = torch.ops.aten
NOTHING = {aten.contiguous.default, aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default}
"""Operators that return what they are given; so does a cast to the same type."""
CASTS = {aten.to.dtype_layout, aten.to.dtype, aten.to.device, aten.to.other, aten._to_copy.default}  # noqa: SLF001
MOVES = {aten.permute.default, aten.reshape.default, aten.view.default, aten.transpose.int, aten.t.default}
UNARY = {
    aten.relu.default,
    aten.relu6.default,
    aten.sigmoid.default,
    aten.tanh.default,
    aten.silu.default,
    aten.gelu.default,
    aten.elu.default,
    aten.leaky_relu.default,
    aten.hardswish.default,
    aten.hardsigmoid.default,
    aten.hardtanh.default,
    aten.clamp.default,
}
BINARY = {
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.multiply.Tensor,
    aten.maximum.default,
    aten.minimum.default,
}
CONVOLUTIONS = {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default}


def batch_normalization(
    x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
) -> Tensor:
    """Keras's operator, as the one operator that PyTorch has for it; Keras writes it out in arithmetic."""
    mean, variance, offset, scale = (
        getattr(argument, "value", argument) for argument in (mean, variance, offset, scale)
    )
    order = [0, axis % x.dim(), *(place for place in range(1, x.dim()) if place != axis % x.dim())]
    made = functional.batch_norm(x.permute(order), mean, variance, scale, offset, training=False, eps=epsilon)
    return made.permute([order.index(place) for place in range(x.dim())])


def tidied(module: fx.GraphModule, variables: dict[int, tuple[str, bool]]) -> fx.GraphModule:
    """The graph with parameters; `variables`: name of each and whether it is trained, by the address of its data."""
    graph = module.graph
    graph.eliminate_dead_code()  # every weight is read once, whether it is used or not
    _drop_nothing(graph)
    own = _Weights(module, variables)
    own.adopt()
    own.fold()
    for node in list(graph.nodes):
        if node.target in {aten.add.Tensor, aten.add_.Tensor}:
            own.absorb_bias(node)
    for node in list(graph.nodes):
        if node.target == aten.matmul.default:
            own.absorb_bias_free(node)
    _cancel_permutations(graph)
    own.leave_only_used()
    graph.lint()
    module.recompile()
    return module


def _drop_nothing(graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if node.target == aten._assert_tensor_metadata.default:  # noqa: SLF001
            graph.erase_node(node)
        elif node.target in NOTHING or (node.target in CASTS and _dtype(node) == _dtype(node.args[0])):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _dtype(node: fx.Node) -> torch.dtype | None:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None


def is_node(value: object) -> bool:
    """Whether an argument is a value of the graph; its own arguments are of many types."""
    return isinstance(value, fx.Node)


class _Weights:
    """The constants of a graph, which become parameters and buffers of the module itself."""

    def __init__(self, module: fx.GraphModule, variables: dict[int, tuple[str, bool]]) -> None:
        self.module, self.graph, self.variables = module, module.graph, variables
        self.names: dict[object, str] = {}
        """By what each was made of: a layer that is called twice has its weights once."""

    def adopt(self) -> None:
        """Name every constant after the variable that it is."""
        for node in [node for node in self.graph.nodes if node.op == "get_attr"]:
            value = self._value(node)
            if isinstance(value, Tensor):
                name, trained = self.variables.get(value.data_ptr(), ("constant", False))
                self._replace(node, value, name, (value.data_ptr(), tuple(value.shape)), trained=trained)

    def fold(self) -> None:
        """Carry out what only moves the elements of one weight."""
        for node in list(self.graph.nodes):
            if node.target in MOVES and self._is_weight(node.args[0]):
                source: Any = node.args[0]
                moved = node.target(self._value(source).detach(), *node.args[1:]).contiguous()
                name = source.target.removesuffix("_moved") + "_moved"
                made_of = (source.target, node.target, str(node.args[1:]))
                self._replace(node, moved, name, made_of, trained=isinstance(self._value(source), nn.Parameter))

    def absorb_bias(self, node: Any) -> None:
        """`permute(convolution) + bias` and `matmul + bias` as one operator each."""
        made: Any = node.args[0]
        bias: Any = node.args[1]
        if not (is_node(made) and self._is_weight(bias) and len(made.users) == 1):
            return
        value = self._value(bias)
        if value.dim() == 0 or value.shape[-1] != value.numel():
            return
        if made.target == aten.matmul.default and self._is_weight(made.args[1]):
            self._linear(made, node, bias)
            return
        inner: Any = made.args[0] if made.target == aten.permute.default else None
        if is_node(inner) and inner.target in CONVOLUTIONS and len(inner.users) == 1:
            channels_last = list(made.args[1]) == [0, *range(2, len(made.args[1])), 1]
            if channels_last and (len(inner.args) < 3 or inner.args[2] is None):
                flat = self._flat(bias, inner)
                inner.args = (*inner.args[:2], flat, *inner.args[3:])
                node.replace_all_uses_with(made)
                self.graph.erase_node(node)

    def absorb_bias_free(self, node: Any) -> None:
        """A product with a weight that nothing is added to."""
        if self._is_weight(node.args[1]) and self._value(node.args[1]).dim() == 2:
            self._linear(node, node, None)

    def leave_only_used(self) -> None:
        """Drop what the graph does not read any more."""
        self.graph.eliminate_dead_code()
        used = {node.target for node in self.graph.nodes if node.op == "get_attr"}
        for name, _ in list(self.module.named_children()):
            delattr(self.module, name)
        for name in [*self.module._parameters, *self.module._buffers]:  # noqa: SLF001
            if name not in used:
                delattr(self.module, name)

    def _linear(self, product: Any, node: Any, bias: Any) -> None:
        weight = product.args[1]
        if self._value(weight).dim() != 2:
            return
        with self.graph.inserting_before(product):
            transposed = self._new(self._value(weight).detach().t().contiguous(), weight)
            flat = () if bias is None else (self._new(self._value(bias).detach().reshape(-1), bias),)
            linear = self.graph.call_function(aten.linear.default, (product.args[0], transposed, *flat))
        linear.meta = dict(node.meta)
        node.replace_all_uses_with(linear)
        self.graph.erase_node(node)
        if product is not node:
            self.graph.erase_node(product)

    def _flat(self, bias: fx.Node, before: fx.Node) -> fx.Node:
        with self.graph.inserting_before(before):
            return self._new(self._value(bias).detach().reshape(-1), bias)

    def _new(self, value: Tensor, source: Any) -> fx.Node:
        trained = isinstance(self._value(source), nn.Parameter)
        made_of = (source.target, value.dim(), "turned or flat")
        return self._get(value, source.target.removesuffix("_moved") + "_moved", made_of, trained=trained)

    def _replace(self, node: fx.Node, value: Tensor, name: str, made_of: object, *, trained: bool) -> None:
        with self.graph.inserting_before(node):
            node.replace_all_uses_with(self._get(value, name, made_of, trained=trained))
        self.graph.erase_node(node)

    def _get(self, value: Tensor, name: str, made_of: object, *, trained: bool) -> fx.Node:
        unique = self.names.get(made_of) or self._named(value, name, trained=trained)
        self.names[made_of] = unique
        made = self.graph.get_attr(unique)
        made.meta["val"] = value
        return made

    def _named(self, value: Tensor, name: str, *, trained: bool) -> str:
        wanted = unique = "".join(letter if letter.isalnum() else "_" for letter in name)
        while unique in self.names.values():
            unique = f"{wanted}_{len(self.names)}"
        if trained:
            self.module.register_parameter(unique, nn.Parameter(value.detach().clone()))
        else:
            self.module.register_buffer(unique, value.detach().clone())
        return unique

    def _is_weight(self, node: object) -> bool:
        return isinstance(node, fx.Node) and node.op == "get_attr" and isinstance(self._value(node), Tensor)

    def _value(self, node: Any) -> Any:
        value: Any = self.module
        for part in node.target.split("."):
            value = getattr(value, part)
        return value


def _cancel_permutations(graph: fx.Graph) -> None:
    """Move each permutation behind what works on every element alone, and join it with the next one."""
    for node in list(graph.nodes):
        source: Any = node.args[0] if node.args else None
        if not (is_node(source) and source.target == aten.permute.default):
            continue
        alike = [source, *(other for other in node.args[1:2] if _permutes_as(other, source))]
        if node.target in UNARY or (node.target in BINARY and len(alike) == 2):
            with graph.inserting_after(node):
                moved = graph.call_function(aten.permute.default, (node, source.args[1]))
            node.replace_all_uses_with(moved, delete_user_cb=lambda user, moved=moved: user is not moved)
            taken = 2 if node.target in BINARY else 1
            node.args = (*(permutation.args[0] for permutation in alike[:taken]), *node.args[taken:])
        elif node.target == aten.permute.default:
            axes: Any = node.args[1]
            order = [source.args[1][place] for place in axes]
            if order == list(range(len(order))):
                node.replace_all_uses_with(source.args[0])
                graph.erase_node(node)
            else:
                node.args = (source.args[0], order)
    graph.eliminate_dead_code()


def _permutes_as(other: Any, source: fx.Node) -> bool:
    return is_node(other) and other.target == aten.permute.default and other.args[1] == source.args[1]
