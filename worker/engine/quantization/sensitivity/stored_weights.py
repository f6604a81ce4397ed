"""Plans of weights alone by choice: each in few bits, in 8, or in floating point."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import prod
from pathlib import Path

import onnx
from onnx import ModelProto, numpy_helper

from app.spec.job import Role
from app.spec.signature import Signature
from worker.engine.context import Context
from worker.engine.lowering.onnx.weights import lower_weights
from worker.engine.onnx_graph.file import save
from worker.engine.plan.grids import CodedWeight
from worker.engine.plan.layout import Weight
from worker.engine.plan.plan import WeightsPlan
from worker.engine.quantization.sensitivity.search import Search
from worker.engine.quantization.sensitivity.sweep import FLOAT, Choice, QuantizableLayer

Coder = Callable[[str, int], CodedWeight]
"""The codes of the weight of this name in so many bits."""


class StoredWeights:
    """A float graph whose weights can be coded one by one; no activation is ever rounded, so none is a product."""

    def __init__(self, graph: Path, weights: Sequence[Weight], coder: Coder) -> None:
        """Code weights of `graph` by `coder`."""
        self.graph, self.coder = graph, coder
        self.layers = tuple(
            QuantizableLayer(weight.name, weight.operator, weight.name, prod(weight.layout.shape), 0)
            for weight in weights
        )

    @cached_property
    def model(self) -> ModelProto:
        """The graph with its weights."""
        return onnx.load(self.graph)

    def values_in(self, choice: Choice) -> Mapping[str, int]:  # noqa: ARG002
        return {}

    def values_at(self, layer: QuantizableLayer, bits: int) -> Mapping[str, int]:  # noqa: ARG002
        return {}

    def rounding(self, weights: Choice, values: Mapping[str, int], path: Path) -> Path:  # noqa: ARG002
        """Write the graph with the values that codes of so many bits have."""
        changed = {layer.name: bits for layer, bits in weights.items() if bits != FLOAT}
        model = ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in changed:
                values_of = self.coder(tensor.name, changed[tensor.name]).values()
                tensor.CopyFrom(numpy_helper.from_array(values_of, tensor.name))
        return save(model, path)[0]


class WeightsSearch(Search):
    """Variants of a plan that codes all weights."""

    def __init__(
        self, subject: StoredWeights, widths: Sequence[int], role: Role, signature: Signature, context: Context
    ) -> None:
        """`widths` are the bits that a weight may have, ascending."""
        self.subject = subject
        super().__init__(subject.graph, subject, widths, role, signature, context)

    def lowered(self, choice: Choice) -> ModelProto:
        """The weights unpacked by arithmetic."""
        coder = self.subject.coder
        weights = {layer.name: coder(layer.name, bits) for layer, bits in choice.items() if bits != FLOAT}
        return lower_weights(WeightsPlan(self.graph, weights))
