"""The codes of a program as LibTorch's own quantized operators, for the kernels of the engines `x86` and `qnnpack`.

`dequantize -> operator -> quantize` becomes one operator on quantized tensors where LibTorch has one: convolutions,
matrix products and additions with the clamp behind them, and what only moves codes. Their activations are unsigned: a
code and its zero-point are 128 more than the program's, and mean the same. Everything else stays a float operator
between two conversions.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import torch
import torch.ao.nn.intrinsic.quantized as fused
from torch import Tensor, fx, nn
from torch.ao.nn import quantized
from torch.ao.nn.quantized import dynamic

from worker.engine.lowering.program.codes import CLAMPS, CODES
from worker.engine.torch_program.program import quiet

Node = Any
"""An `fx.Node`: its arguments may be anything, and are read here all the time."""
ATEN = torch.ops.aten
SHIFT: Final = 128
"""From signed codes to unsigned ones."""
LAST: Final = 255
CONVOLUTIONS: Final[dict[Any, tuple[type, type]]] = {
    ATEN.conv1d.default: (quantized.Conv1d, fused.ConvReLU1d),
    ATEN.conv2d.default: (quantized.Conv2d, fused.ConvReLU2d),
}
DEFAULTS: Final = (1, 0, 1, 1)
"""Stride, padding, dilation and groups of a convolution."""
MOVES: Final = frozenset(
    {
        ATEN.max_pool2d.default,
        ATEN.view.default,
        ATEN.reshape.default,
        ATEN.flatten.using_ints,
        ATEN.permute.default,
        ATEN.transpose.int,
        ATEN.unsqueeze.default,
        ATEN.squeeze.dim,
        ATEN.contiguous.default,
    }
)
"""Operators that take quantized tensors and return codes on the same grid."""
BACK: Final = CODES.dequantize_per_tensor.default
WEIGHTS: Final = (CODES.dequantize_per_channel.default, BACK)


def use_integers(module: fx.GraphModule) -> int:
    """Change the module's graph; the number of layers that multiply integers.

    The engine that is set (`torch.backends.quantized.engine`) packs the weights; a saved file packs its own anew.
    """
    rewriting = _Rewriting(module)
    with quiet():  # quantized tensors are deprecated, as all of TorchScript is
        for node in list(module.graph.nodes):
            if node.target is CODES.quantize_per_tensor.default:
                rewriting.quantized(node)
            elif node.target is ATEN.linear.default:
                rewriting.rounded_as_it_comes(node)
        rewriting.give_back()
    return rewriting.layers


class _Rewriting:
    """One pass over a graph in its own order; `native` holds the quantized tensor of every quantize met so far."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module, self.graph = module, module.graph
        self.native: dict[fx.Node, fx.Node] = {}
        self.layers = 0

    def quantized(self, node: Node) -> None:
        """Find or make the quantized tensor that this node stands for."""
        scale, zero = float(node.args[1]), int(node.args[2]) + SHIFT
        source, relu = self._clamped(node, scale, zero)
        with self.graph.inserting_before(node):
            made = self._layer(source, scale, zero, relu=relu) or self._sum(source, scale, zero, relu=relu)
            if made is None and source is node.args[0]:
                made = self._moved(source, scale, zero)
            if made is None:
                made = self.graph.call_function(
                    ATEN.quantize_per_tensor.default, (node.args[0], scale, zero, torch.quint8)
                )
        self.native[node] = made

    def rounded_as_it_comes(self, node: Node) -> None:
        """A matrix product whose input is rounded on a grid chosen for each call, by the kernel itself."""
        value, weight = node.args[:2]
        if getattr(value, "target", None) is not CODES.dequantize_per_tensor.tensor:
            return
        constant = self._weight(weight)
        if constant is None:
            return
        layer = dynamic.Linear(constant.shape[1], constant.shape[0])
        layer.set_weight_bias(constant, self._bias(node, 2))
        with self.graph.inserting_before(node):
            call = self.graph.call_module(self._added(layer), (value.args[0].args[0],))
        call.meta = node.meta
        node.replace_all_uses_with(call)
        self.layers += 1

    def give_back(self) -> None:
        """Have what still reads floats read them from the quantized tensors, and drop what nothing reads."""
        for node in self.graph.find_nodes(op="call_function", target=BACK):
            if node.args[0] in self.native:
                with self.graph.inserting_before(node):
                    floats = self.graph.call_function(ATEN.dequantize.self, (self.native[node.args[0]],))
                floats.meta = node.meta
                node.replace_all_uses_with(floats)
        self.graph.eliminate_dead_code()
        for target in WEIGHTS:
            for node in self.graph.find_nodes(op="call_function", target=target):
                self._store_floats(node)
        for node in self.graph.find_nodes(op="call_function", target=ATEN.view.default):
            node.target = ATEN.reshape.default  # quantized kernels leave channels last, of which there may be no view
        self.graph.eliminate_dead_code()
        self.module.delete_all_unused_submodules()
        self.module.recompile()

    def _clamped(self, node: Node, scale: float, zero: int) -> tuple[Node, bool]:
        """What is clamped in front of a quantize, if its codes or a ReLU clamp just so; else what is quantized."""
        clamp: Any = node.args[0]
        if clamp.target not in CLAMPS or len(clamp.users) > 1:
            return clamp, False
        low, high = (0.0, float("inf")) if clamp.target is ATEN.relu.default else clamp.args[1:3]
        lowest, highest = scale * (0 - zero), scale * (LAST - zero)
        if high < highest - scale / 2:
            return clamp, False
        if low <= lowest + scale / 2:
            return clamp.args[0], False
        return (clamp.args[0], True) if low == 0 else (clamp, False)

    def _operand(self, node: Any) -> Node | None:
        """The quantized tensor behind a dequantize."""
        return self.native.get(node.args[0]) if getattr(node, "target", None) is BACK else None

    def _layer(self, node: Node, scale: float, zero: int, *, relu: bool) -> Node | None:
        """A convolution or matrix product of codes with codes."""
        if node.target not in (*CONVOLUTIONS, ATEN.linear.default) or len(node.users) > 1:
            return None
        value, weight = self._operand(node.args[0]), self._weight(node.args[1])
        if value is None or weight is None:
            return None
        layer: Any
        if node.target is ATEN.linear.default:
            layer = (fused.LinearReLU if relu else quantized.Linear)(weight.shape[1], weight.shape[0])
        else:
            given: tuple[Any, ...] = node.args[3:]
            filled: list[Any] = [*given, *DEFAULTS[len(given) :]]
            stride, padding, dilation, groups = filled
            layer = CONVOLUTIONS[node.target][relu](
                weight.shape[1] * groups,
                weight.shape[0],
                tuple(weight.shape[2:]),
                _sizes(stride),
                _sizes(padding),
                _sizes(dilation),
                groups,
            )
        layer.set_weight_bias(weight, self._bias(node, 2))
        layer.scale, layer.zero_point = scale, zero
        self.layers += 1
        return self.graph.call_module(self._added(layer), (value,))

    def _sum(self, node: Node, scale: float, zero: int, *, relu: bool) -> Node | None:
        if node.target not in (ATEN.add.Tensor, ATEN.add_.Tensor) or len(node.users) > 1 or node.kwargs:
            return None
        operands = [self._operand(argument) for argument in node.args]
        if len(operands) != 2 or None in operands:
            return None
        add = torch.ops.quantized.add_relu if relu else torch.ops.quantized.add
        return self.graph.call_function(add, (*operands, scale, zero))

    def _moved(self, node: Node, scale: float, zero: int) -> Node | None:
        """An operator that moves codes, where those before it and behind it are on the same grid."""
        value = self._operand(node.args[0]) if node.target in MOVES else None
        if value is None or node.args[0].args[1:3] != (scale, zero - SHIFT):
            return None
        target: Callable[..., Any] = node.target
        return self.graph.call_function(target, (value, *node.args[1:]), node.kwargs)

    def _weight(self, node: Any) -> Tensor | None:
        """A quantized int8 tensor of a constant and its dequantize; None for anything else."""
        if getattr(node, "target", None) not in WEIGHTS or node.args[0].op != "get_attr":
            return None
        codes, scales, zeros = (self._value(argument) for argument in node.args[:3])
        if node.target is BACK:
            return torch._make_per_tensor_quantized_tensor(codes, float(scales), int(zeros))  # noqa: SLF001
        return torch._make_per_channel_quantized_tensor(  # noqa: SLF001  # torch offers no other way from codes
            codes,
            scales.double(),
            zeros.long(),
            int(node.args[3]),
        )

    def _bias(self, node: Node, place: int) -> Tensor | None:
        bias = node.args[place] if len(node.args) > place else None
        tensor: Tensor | None = None if bias is None else self._value(bias)
        return tensor

    def _value(self, argument: Any) -> Any:
        return attrgetter(str(argument.target))(self.module).detach() if isinstance(argument, fx.Node) else argument

    def _store_floats(self, node: Node) -> None:
        """A weight that nothing multiplies as codes: its values, computed once."""
        if node.args[0].op != "get_attr":
            return
        name = f"{node.name}_values"
        self.module.register_buffer(name, node.target(*map(self._value, node.args)))
        with self.graph.inserting_before(node):
            node.replace_all_uses_with(self.graph.get_attr(name))

    def _added(self, layer: nn.Module) -> str:
        name = f"quantized_{self.layers}"
        self.module.add_module(name, layer.eval())
        return name


def _sizes(argument: Any) -> Any:
    return tuple(argument) if isinstance(argument, list | tuple) else argument
