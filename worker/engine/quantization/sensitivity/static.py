"""Plans of 8-bit activations by choice: layers in floating point, layers with narrow weights."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from onnx import ModelProto

from app.spec.job import Role
from app.spec.signature import Signature
from worker.engine.context import Context
from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.lowering.onnx.static import lower_static
from worker.engine.plan.plan import Grid, StaticPlan
from worker.engine.quantization.sensitivity.roundable_graph import NarrowInputs, RoundableGraph
from worker.engine.quantization.sensitivity.search import Search
from worker.engine.quantization.sensitivity.sweep import FLOAT, Choice


class StaticSearch(Search):
    """Variants of a plan that quantizes all it can."""

    def __init__(
        self,
        plan: StaticPlan,
        widths: Sequence[int],
        role: Role,
        signature: Signature,
        context: Context,
        inputs: NarrowInputs | None = None,
        wide: Collection[str] = (),
    ) -> None:
        """`widths` are the bits that weights may have, ascending, the last of them 8.

        `inputs` are those of layers with narrow weights if they, too, have fewer than 8 bits; layers in `wide` have 8.
        """
        self.plan, self.subject = plan, replace(RoundableGraph.of(plan), inputs=inputs)
        super().__init__(plan.graph, self.subject, widths, role, signature, context, wide)

    def planned(self, choice: Choice) -> StaticPlan:
        """The plan with each layer at its bits."""
        floating = [layer.name for layer, bits in choice.items() if bits == FLOAT]
        nodes = self.subject.nodes_without(floating)
        kept = frozenset(nodes)
        means = {name: mean for name, mean in self.plan.input_means.items() if name in kept}
        return replace(self.plan, nodes=nodes, input_means=means, grids={**self.plan.grids, **self._grids(choice)})

    def lowered(self, choice: Choice) -> ModelProto:
        """For x86, whose integer kernels take in the most operators."""
        return lower_static(self.planned(choice), PROFILES["x86"])

    def _grids(self, choice: Choice) -> dict[str, Grid]:
        """Codes of the narrow weights and inputs; a weight that another layer wants wider stays wide."""
        wide = {layer.weight for layer, bits in choice.items() if bits >= 8}
        weights = {
            layer.weight: self.subject.grid(layer, bits)
            for layer, bits in choice.items()
            if bits < 8 and layer.weight not in wide
        }
        return weights | self.subject.narrow_values(choice)
