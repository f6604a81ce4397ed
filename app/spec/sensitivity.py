"""Which layers bear compression: measured before anything is changed."""

from typing import ClassVar, Literal

from pydantic import Field

from app.spec.base import Needs, Step
from app.spec.quantize import Observer


class AnalyzeSensitivity(Step):
    """Change one layer at a time, measure what that does to the outputs, and leave the model as it is.

    The report has a table and a picture, the artifacts the same as JSON. Where the calibration data has class labels,
    the effect on top-1 is measured, too.
    """

    type: Literal["analyze.sensitivity"] = "analyze.sensitivity"
    what: Literal["quantize", "prune.channels", "prune.weights"] = Field(
        "quantize", description="Round a layer's weights and activations, or zero some of its channels or weights."
    )
    bits: tuple[Literal[2, 3, 4, 8], ...] = Field(
        (8, 4), min_length=1, max_length=4, description="Widths of the weights (quantize); activations have 8 bits."
    )
    observer: Observer = Field("minmax", description="How activations' ranges are chosen (quantize).")
    ratio: float = Field(0.5, gt=0, lt=1, description="Share of a layer's channels or weights (prune).")
    samples: int = Field(64, ge=1, le=100_000, description="Calibration rows used at most.")

    needs: ClassVar[Needs] = Needs(calibration=True)

    def requires(self) -> Needs:
        """Pruning needs the program."""
        return self.needs.model_copy(update={"trainable_graph": self.what != "quantize"})
