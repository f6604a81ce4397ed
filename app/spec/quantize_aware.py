"""Quantization-aware training."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.spec.base import Needs, OnlyWith
from app.spec.distill import Distill, MatchedOutputs
from app.spec.quantize import Budget, Budgeted, Skip
from app.spec.training import Training

TAUGHT = OnlyWith("distill", ("dist", "kd", "kd_standardized", "mse"), "a distance in distill")


class QuantizeAware(Training, Budgeted):
    """Train the model with its weights and activations on the grids of few bits, whose scales are learned, too.

    Values are rounded where the integer kernels will round them, residual additions and layers' outputs included, so
    that what was trained is what runs. Batch norms are folded into the layers before them first.
    """

    type: Literal["quantize.aware"] = "quantize.aware"
    weights: Literal["int8", "int4", "int3", "int2"] = "int8"
    activations: Literal["int8", "int4"] = Field("int8", description="Of what layers read; all else has 8 bits.")
    edges: Literal["int8", "same"] = Field(
        "int8", description="The first and the last layer keep 8 bits, or have as few as the others."
    )
    distill: Literal["dist", "kd", "kd_standardized", "mse"] | None = Field(
        None,
        description="Learn the answers of the model before this step, too: the distances of the step 'distill'. None: "
        "from labels alone: bench/distillation.py found no gain on digits, and `dist` lost with 4-bit activations.",
    )
    alpha: Annotated[float | None, TAUGHT] = Field(
        None,
        ge=0,
        le=1,
        description="Share of those answers in the loss; 1 needs no labels. Left out: as in 'distill'.",
    )
    outputs: Annotated[MatchedOutputs, TAUGHT] = Field(
        None,
        description="Outputs whose answers are learned, as in 'distill'. Left out: the one that learns the labels.",
    )
    samples: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="Rows used at most for the first scales: calibration rows, or training rows.",
    )
    skip: Skip | Literal["auto"] = Field(
        Skip(),
        description="What stays in floating point; 'auto': layers get 8 bits, or stay floats, one by one until the "
        "budget is kept before training, which then wins back some of it.",
    )
    budget: Budget | None = Field(None, description="For skip 'auto': what the outputs may lose before training.")

    needs: ClassVar[Needs] = Needs(train=True, labels=True, trainable_graph=True)
    quantizes: ClassVar[bool] = True
    makes_plan: ClassVar[bool] = True

    def distillation(self) -> Distill | None:
        """The step that would compare answers in this way."""
        return None if self.distill is None else Distill(loss=self.distill, alpha=self.alpha, outputs=self.outputs)

    def requires(self) -> Needs:
        """Answers of the model alone need no labels, unless right ones are counted."""
        teaching = self.distillation()
        labels = teaching is None or teaching.share < 1 or self.counts_answers
        return Needs(train=True, labels=labels, trainable_graph=True)
