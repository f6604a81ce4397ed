"""The graph to train: the program's own, with every tensor rounded where the integer kernels will round it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx

from app.spec.training import Training
from worker.engine.lowering.onnx.placement import Placement
from worker.engine.lowering.program.places import Product, product_at
from worker.engine.plan.plan import Grid
from worker.engine.quantization.qat.fake_quant import BiasQuantizer, Quantizer
from worker.engine.quantization.qat.scales import weight_grid

SCALES_RATE = 1.0
"""Learning rate of scales, relative to that of weights."""


@dataclass
class FakeQuantized:
    """A graph with quantizers, and what each of them is for."""

    module: fx.GraphModule
    activations: dict[str, Quantizer] = field(default_factory=dict)
    """By the name of the node behind which it rounds."""
    weights: dict[str, Quantizer] = field(default_factory=dict)
    """By the name of the parameter."""
    products: dict[str, str] = field(default_factory=dict)
    """The parameter that is the weight of each layer, by the layer's output."""

    def groups(self, config: Training) -> list[dict[str, Any]]:
        """Parameters to train: weights, what has no weight decay, and scales."""
        scales = {
            id(module.log_ratio): module.log_ratio for module in self.module.modules() if isinstance(module, Quantizer)
        }
        own = [
            parameter
            for parameter in self.module.parameters()
            if id(parameter) not in scales and parameter.is_floating_point()
        ]
        groups = [
            {"params": [parameter for parameter in own if parameter.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [parameter for parameter in own if parameter.ndim <= 1], "weight_decay": 0.0},
            {"params": list(scales.values()), "weight_decay": 0.0, "lr": SCALES_RATE * config.learning_rate},
        ]
        return [group for group in groups if group["params"]]

    @torch.no_grad()
    def trained(self) -> dict[str, Tensor]:
        """The network's parameters by name, weights on their grids."""
        quantizers = {name for name, module in self.module.named_modules() if isinstance(module, Quantizer)}
        return {
            name: self.weights[name](parameter) if name in self.weights else parameter.detach().clone()
            for name, parameter in self.module.named_parameters(remove_duplicate=False)
            if name.rpartition(".")[0] not in quantizers
        }


def fake_quantize(
    module: fx.GraphModule,
    places: Mapping[str, fx.Node],
    placed: Placement,
    activations: Mapping[str, Grid],
    codes: Mapping[str, tuple[int, int]],
) -> FakeQuantized:
    """Put quantizers into `module`, whose values have the nodes `places`.

    `activations` are the first grids of the tensors that have a scale of their own, `codes` the lowest and the highest
    of each weight, by the output of its layer.
    """
    fake_quantized = FakeQuantized(module)
    products = {layer: product for layer in placed.layers if (product := product_at(places[layer.output])) is not None}
    for name in dict.fromkeys(placed.scale_of.values()):
        quantizer = Quantizer(activations[name], _most(activations[name], placed.bounds.get(name)))
        fake_quantized.activations[places[name].name] = quantizer
        _behind(module, places[name], f"quantized_{name}", quantizer)
    # A weight that is read both ways round, as when a layer and its transpose share it, has one scale for all of it:
    # ONNX Runtime's MatMulIntegerToFloat takes scales for columns whatever axis they belong to.
    axes: dict[str, set[int | None]] = {}
    for layer, product in products.items():
        axis = None if layer.axis is None else product.axis
        axes.setdefault(str(product.weight.target), set()).add(axis)
    for layer, product in products.items():
        fake_quantized.products[layer.output] = str(product.weight.target)
        inputs = fake_quantized.activations[places[placed.scale_of[layer.inputs]].name]
        read_along = axes[str(product.weight.target)]
        axis = next(iter(read_along)) if len(read_along) == 1 else None
        _quantize_parameters(fake_quantized, product, inputs, codes[layer.output], axis)
    module.graph.lint()
    module.recompile()
    return fake_quantized


def _quantize_parameters(
    fake_quantized: FakeQuantized, product: Product, inputs: Quantizer, codes: tuple[int, int], axis: int | None
) -> None:
    module, name = fake_quantized.module, str(product.weight.target)
    if name not in fake_quantized.weights:
        weight = attrgetter(name)(module).detach()
        fake_quantized.weights[name] = Quantizer(weight_grid(weight, codes, axis))
        for node in module.graph.find_nodes(op="get_attr", target=name):
            _behind(module, node, f"quantized_{name}", fake_quantized.weights[name])
    if product.bias is not None:
        bias = BiasQuantizer((inputs, fake_quantized.weights[name]))
        added = f"quantized_{product.adds.name}_bias"
        module.add_submodule(added, bias)
        with module.graph.inserting_before(product.adds):
            rounded = module.graph.call_module(added, (product.bias,))
        product.adds.replace_input_with(product.bias, rounded)


def _behind(module: fx.GraphModule, node: fx.Node, name: str, quantizer: Quantizer) -> None:
    """Have everything that reads `node` read it rounded."""
    target = name.replace(".", "_")
    module.add_submodule(target, quantizer)
    with module.graph.inserting_after(node):
        rounded = module.graph.call_module(target, (node,))
    node.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)


def _most(grid: Grid, bounds: tuple[float, float] | None) -> float:
    """The largest scale whose codes stay within the bounds of the clamp they replace."""
    if bounds is None:
        return float("inf")
    below, above = grid.zero_point - grid.low, grid.high - grid.zero_point
    return min([bounds[1] / above if above else float("inf"), -bounds[0] / below if below else float("inf")])
