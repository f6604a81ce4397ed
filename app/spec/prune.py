"""Pruning: what a network can do without."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from app.spec.base import Needs, Step

Criterion = Literal["l1", "l2", "bn_scale", "taylor", "random"]
Patterns = tuple[Annotated[str, Field(min_length=1, max_length=300)], ...]
DEFAULT_RATIO = 0.5
DEFAULT_SPARSITY = 0.5


class PruneChannels(Step):
    """Remove whole channels, attention heads and hidden units with the least weight, and every weight tied to them.

    What is left is a smaller dense network, faster everywhere. How much to remove: `ratio` of every layer (with
    exceptions in `ratios`), of all layers together (`scope` global), or as much as `target_macs` or
    `target_parameters` takes.
    """

    type: Literal["prune.channels"] = "prune.channels"
    ratio: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of channels removed. Left out: 0.5, unless `ratios` or a target says how much.",
    )
    ratios: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict,
        max_length=1000,
        description="Shares for the layers that a pattern matches, the first pattern first; the others take `ratio`, "
        "or stay whole if that is left out.",
    )
    target_macs: float | None = Field(
        None, gt=0, lt=1, description="Remove until at most this share of the multiply-accumulates is left."
    )
    target_parameters: float | None = Field(
        None, gt=0, lt=1, description="Remove until at most this share of the parameters is left."
    )
    criterion: Criterion = Field(
        "l2",
        description="What makes a channel matter: the norm of its weights (l1, l2), the scale of its batch norm, the "
        "effect on the loss to first order (taylor, needs labelled rows), or nothing (random, to compare with).",
    )
    scope: Literal["local", "global"] = Field(
        "local", description="Rank channels within their layer, or those of all layers together."
    )
    round_to: int = Field(
        16,
        ge=1,
        le=1024,
        description="Channels kept are a multiple of this, because kernels run in blocks; layers where that would "
        "remove nothing stay whole. Attention heads are counted, not rounded.",
    )
    min_channels: int = Field(1, ge=1, le=100_000, description="Channels that every layer keeps at least.")
    include: Patterns = Field((), max_length=1000, description="Only layers that a glob pattern matches ('layer4.*').")
    exclude: Patterns = Field((), max_length=1000, description="Not layers that a glob pattern matches.")
    samples: int = Field(512, ge=1, le=1_000_000, description="Rows used at most (criterion 'taylor').")
    rows: Literal["train", "calibration"] = Field(
        "train", description="The role whose labelled rows are used (criterion 'taylor')."
    )
    output: str | None = Field(
        None,
        max_length=200,
        description="The output that the labels belong to (criterion 'taylor'); None: the first that they fit.",
    )

    needs: ClassVar[Needs] = Needs(trainable_graph=True)

    @model_validator(mode="after")
    def _one_amount(self) -> "PruneChannels":
        targets = [name for name in ("target_macs", "target_parameters") if getattr(self, name) is not None]
        if len(targets) > 1:
            raise ValueError("target_macs and target_parameters are both given; keep one")
        if targets and (self.ratio is not None or self.ratios):
            raise ValueError(f"{targets[0]} decides how much is removed; leave ratio and ratios out")
        if self.ratios and self.scope == "global":
            raise ValueError("ratios belong to layers, scope 'global' ranks all layers together; use scope 'local'")
        return self

    @property
    def share(self) -> float:
        """The share of channels removed where no pattern of `ratios` says otherwise."""
        if self.ratio is not None:
            return self.ratio
        return 0.0 if self.ratios else DEFAULT_RATIO

    def requires(self) -> Needs:
        """Only the Taylor criterion looks at data."""
        if self.criterion != "taylor":
            return self.needs
        return Needs(
            trainable_graph=True, train=self.rows == "train", calibration=self.rows == "calibration", labels=True
        )


class PruneWeights(Step):
    """Set the least important weights to zero, one by one. Trainings that follow keep them at zero.

    Files shrink when they are compressed; nothing gets faster on CPU runtimes, whose kernels are dense.
    """

    type: Literal["prune.weights"] = "prune.weights"
    sparsity: float | None = Field(
        None, gt=0, lt=1, description="Share of the weights of the chosen layers set to zero. Left out: 0.5."
    )
    pattern: Annotated[str, StringConstraints(pattern=r"^[1-9]\d?:[1-9]\d?$")] | None = Field(
        None,
        description="N:M, such as '2:4': of every M weights in a row along the input at most N are left. Layers whose "
        "inputs are not a multiple of M stay whole.",
    )
    criterion: Literal["l1", "l2", "wanda"] = Field(
        "l1",
        description="What makes a weight matter: its size (l1), its size relative to the layer's root mean square "
        "(l2), or its size times the norm of its input on calibration data (wanda). Within a layer, l1 and l2 rank "
        "alike: they differ with scope global, where l1 takes more from layers of small weights, which l2 spares.",
    )
    scope: Literal["global", "local"] | None = Field(
        None,
        description="Rank the weights of all layers together, or those of each layer (wanda: of each output). Left "
        "out: global, but local for wanda.",
    )
    include: Patterns = Field((), max_length=1000, description="Only layers that a glob pattern matches ('layer4.*').")
    exclude: Patterns = Field((), max_length=1000, description="Not layers that a glob pattern matches.")
    samples: int = Field(512, ge=1, le=1_000_000, description="Calibration rows used at most (criterion 'wanda').")

    needs: ClassVar[Needs] = Needs(parameters=True)

    @model_validator(mode="after")
    def _one_amount(self) -> "PruneWeights":
        if self.pattern is not None:
            if self.sparsity is not None or self.scope is not None:
                raise ValueError("pattern decides how much is removed, and where; leave sparsity and scope out")
            kept, block = self.kept_of or (1, 1)
            if kept >= block:
                raise ValueError(f"pattern {self.pattern} keeps every weight: N must be less than M")
        if self.criterion == "wanda" and self.scope == "global":
            raise ValueError("wanda compares the weights of one output with each other; leave scope out")
        return self

    @property
    def kept_of(self) -> tuple[int, int] | None:
        """N and M of the pattern."""
        if self.pattern is None:
            return None
        kept, block = self.pattern.split(":")
        return int(kept), int(block)

    @property
    def share(self) -> float:
        """Share of weights removed where there is no pattern."""
        return DEFAULT_SPARSITY if self.sparsity is None else self.sparsity

    @property
    def together(self) -> bool:
        """Whether all layers are ranked together."""
        return (self.scope or ("local" if self.criterion == "wanda" else "global")) == "global"

    def requires(self) -> Needs:
        """Only Wanda looks at data, and into the graph as it runs; an ONNX file will do for the others."""
        return Needs(trainable_graph=True, calibration=True) if self.criterion == "wanda" else self.needs
