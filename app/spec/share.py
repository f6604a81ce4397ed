"""Weight sharing: a few values for all weights, and for each weight the number of its value."""

from typing import ClassVar, Literal

from pydantic import Field

from app.spec.base import Needs, Step
from app.spec.quantize import Skip
from app.spec.training import Training


class ShareWeights(Step):
    """Weights become one of a few values, found by k-means. For small files, not for speed."""

    type: Literal["share_weights"] = "share_weights"
    clusters: int = Field(16, ge=4, le=256, description="Values in one table. 16 take 4 bits a weight, 256 take 8.")
    group: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Output channels, or embeddings, that share a table. None: all of a tensor.",
    )
    tune: Training | None = Field(
        None,
        description="Train the values, with labels, once it is settled which weight has which.",
    )
    skip: Skip = Skip()

    makes_plan: ClassVar[bool] = True

    def requires(self) -> Needs:
        return Needs() if self.tune is None else self.tune.requires()
