"""Post-training quantization. A step gathers what it needs; every target lowers the same plan in its own way."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from app.spec.base import Frozen, Needs, Step
from app.spec.choices import NameIn

OBSERVERS: dict[str, str] = {
    "minmax": "all of it",
    "moving_average": "the extremes of a batch, by exponential moving average",
    "percentile": "what holds a share of the values",
    "entropy": "what says the most about their distribution in 8 bits",
    "mse": "what has the least squared error in 8 bits",
}
"""What each observer chooses of the values that it saw; `worker.engine.quantization.observers` has their classes."""

Observer = Annotated[str, NameIn(OBSERVERS)]

UNUSUAL_BLOCKS = "4-bit weights in blocks other than 64 or 128"
"""What a step may demand, and TensorRT lacks."""
BLOCKS = "scales for blocks of weights"
"""What a step may demand, and formats with one scale for each output lack."""
LARGEST_BLOCK = 65_536


class Skip(Frozen):
    """What stays in floating point."""

    nodes: tuple[str, ...] = Field((), description="Node names or glob patterns ('/head/*').", max_length=1000)
    operators: tuple[str, ...] = Field((), description="Operator types, e.g. 'Gemm'.", max_length=100)


class Budget(Frozen):
    """What quantization may cost at most, by one of two measures."""

    sqnr_db: float | None = Field(
        None, gt=0, le=120, description="Signal to quantization noise of the outputs at least, in decibels."
    )
    top1_points: float | None = Field(
        None, ge=0, le=100, description="Top-1 lost at most, in points; needs labels in the calibration data."
    )

    @model_validator(mode="after")
    def _one_measure(self) -> "Budget":
        if (self.sqnr_db is None) == (self.top1_points is None):
            raise ValueError("a budget is either sqnr_db or top1_points")
        return self


class Budgeted(Step):
    """The parameters of every step that can find out by measurement which layers it has to spare."""

    skip: Skip | Literal["auto"] = Field(
        Skip(), description="What stays in floating point; 'auto': the layers without which the budget is kept."
    )
    budget: Budget | None = Field(None, description="For skip 'auto': what the outputs may lose.")

    @model_validator(mode="after")
    def _budget_belongs_to_auto(self) -> "Budgeted":
        if (self.skip == "auto") != (self.budget is not None):
            raise ValueError("skip 'auto' and a budget go together: the budget decides what is skipped")
        return self

    @property
    def named(self) -> Skip:
        """The skip list; 'auto' names nothing."""
        return Skip() if self.skip == "auto" else self.skip

    @property
    def counts_answers(self) -> bool:
        """Whether the budget is in points of top-1, for which there must be labels."""
        return self.budget is not None and self.budget.top1_points is not None


class QuantizeStatic(Budgeted):
    """8-bit weights and activations; activation ranges are measured on calibration data."""

    type: Literal["quantize.static"] = "quantize.static"
    weights: Literal["int8"] = "int8"
    activations: Literal["int8"] = "int8"
    observer: Observer = Field(
        "minmax",
        description="How a tensor's range is chosen from what was seen. "
        + "; ".join(f"'{name}': {choice}" for name, choice in OBSERVERS.items())
        + ".",
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="Share of values inside the range, in percent (observer 'percentile')."
    )
    per_channel: bool = Field(True, description="One weight scale per output channel instead of one per tensor.")
    equalize: bool = Field(
        False, description="Share out the sizes of channels between layers in a row (cross-layer equalization)."
    )
    smooth: bool = Field(
        False, description="Move outlier channels of normalizations into the weights behind them (SmoothQuant)."
    )
    smooth_alpha: float = Field(0.5, ge=0, le=1, description="Share of the outliers' size that the weights take over.")
    bias_correction: bool = Field(
        True,
        description="Take back by the biases how rounding the weights shifts the mean of each layer's outputs, where "
        "that brings the network's outputs on calibration rows nearer to the original's.",
    )
    samples: int = Field(512, ge=1, le=1_000_000, description="Calibration rows used at most.")
    narrowest: Literal["int8", "int4"] = Field(
        "int8", description="For skip 'auto': 'int4' lets layers that bear it have 4-bit weights, stored packed."
    )

    needs: ClassVar[Needs] = Needs(calibration=True)
    quantizes: ClassVar[bool] = True
    makes_plan: ClassVar[bool] = True

    @model_validator(mode="after")
    def _widths_belong_to_auto(self) -> "QuantizeStatic":
        if self.narrowest == "int4" and self.skip != "auto":
            raise ValueError("narrowest 'int4' needs skip 'auto', which chooses the layers")
        return self

    def requires(self) -> Needs:
        """Labels, where the budget is in points of top-1."""
        return self.needs.model_copy(update={"labels": self.counts_answers})


class QuantizeDynamic(Step):
    """8-bit weights; activations are quantized while the model runs. For models made of matrix products."""

    type: Literal["quantize.dynamic"] = "quantize.dynamic"
    weights: Literal["int8"] = "int8"
    per_channel: bool = Field(True, description="One weight scale per output channel instead of one per tensor.")
    skip: Skip = Skip()

    quantizes: ClassVar[bool] = True
    makes_plan: ClassVar[bool] = True


class QuantizeWeights(Budgeted):
    """Weights and embeddings in 8, 4, 3 or 2 bits; the model computes in float32. For small files, not for speed."""

    type: Literal["quantize.weights"] = "quantize.weights"
    weights: Literal["int8", "int4", "int3", "int2"] = "int8"
    method: Literal["rtn", "hqq", "gptq"] = Field(
        "rtn",
        description="'rtn': round to nearest, on the range with the least squared error. 'hqq': half-quadratic, which "
        "moves zero-points until errors are sparse. 'gptq': errors make up for each other on calibration data; best.",
    )
    block: int | None = Field(
        None,
        ge=8,
        le=LARGEST_BLOCK,
        description="Weights of one output that share a scale, at most. None: 32; for int8 all of an output.",
    )
    symmetric: bool | None = Field(
        None,
        description="Zero stays exactly zero, and needs no zero-point. None: for int8, and for weights of which a "
        "quarter is zero. TensorRT takes no others.",
    )
    samples: int = Field(128, ge=1, le=1_000_000, description="Calibration rows used at most (method 'gptq').")
    skip: Skip | Literal["auto"] = Field(
        Skip(),
        description="What stays in floating point; 'auto': weights get 4 or 8 bits, or stay floats, one by one until "
        "the budget is kept, found by measuring each on calibration data.",
    )

    quantizes: ClassVar[bool] = True
    makes_plan: ClassVar[bool] = True

    @model_validator(mode="after")
    def _hqq_moves_zeros(self) -> "QuantizeWeights":
        if self.method == "hqq" and self.symmetric:
            raise ValueError("hqq moves zero-points, which a symmetric grid has not: use rtn, or symmetric false")
        return self

    @property
    def bits(self) -> int:
        """Of one weight; with skip 'auto' the fewest."""
        return int(self.weights.removeprefix("int"))

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits that skip 'auto' may give a weight, ascending."""
        return tuple(sorted({self.bits} | {width for width in (4, 8) if width > self.bits}))

    def at(self, bits: int) -> "QuantizeWeights":
        """The same step with so many bits. The block is for the step's own width: wider weights have their default."""
        block = self.block if bits == self.bits else None
        return self.model_copy(update={"weights": f"int{bits}", "block": block})

    @property
    def may_shift_zero(self) -> bool:
        """Whether grids may have zero-points."""
        return self.method == "hqq" or self.symmetric is False or (self.symmetric is None and self.bits < 8)

    def requires(self) -> Needs:
        return Needs(calibration=self.method == "gptq" or self.skip == "auto", labels=self.counts_answers)

    def demands(self) -> frozenset[str]:
        also = {
            "asymmetric weights": self.may_shift_zero,
            BLOCKS: (self.block or (32 if self.bits < 8 else LARGEST_BLOCK)) < LARGEST_BLOCK,
            UNUSUAL_BLOCKS: self.weights == "int4" and self.block not in (64, 128),
        }
        return frozenset({f"{self.weights} weights", *(name for name, demanded in also.items() if demanded)})
