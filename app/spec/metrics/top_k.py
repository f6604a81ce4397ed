"""The share of rows whose class is among the highest scores."""

from app.spec.data import ArraySpec
from app.spec.metrics.base import Obstacle, Share
from app.spec.signature import FLOATS, TensorSpec
from app.spec.transforms import written


class TopK(Share):
    """Share of rows whose label is among the `rank` highest of their scores `[rows, classes]`."""

    numbers_classes = True

    def __init__(self, rank: int) -> None:
        self.rank, self.name, self.label = rank, f"top{rank}", f"top-{rank}"

    def obstacle(self, output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
        return self._against_labels(labels) or self._against_scores(output)

    def _against_labels(self, labels: ArraySpec) -> Obstacle | None:
        if labels.dtype in FLOATS:
            return Obstacle(f"the labels are {labels.dtype}, not class numbers", "Store `y` as integers.")
        if labels.shape[1:] not in {(), (1,)}:
            return Obstacle(
                f"a row of the labels has the shape {written(labels.shape[1:])}, not one class number",
                "Send one class number per row (one-hot labels: y.argmax(axis=1)).",
            )
        return None

    def _against_scores(self, output: TensorSpec) -> Obstacle | None:
        if len(output.shape) != 2:
            found = f"output '{output.name}' is {output.dtype} of shape {written(output.shape)}"
            return Obstacle(
                f"{found}, not scores [rows, classes]",
                "Name an output with scores of every class in `evaluate.output` (not their argmax).",
            )
        classes = output.shape[1]
        if classes == 1:
            return Obstacle(
                f"output '{output.name}' has a single column", "Export two class scores instead of one probability."
            )
        if isinstance(classes, int) and classes <= self.rank:
            return Obstacle(f"with {classes} classes every answer is right", "Leave it out.")
        return None


TOP1 = TopK(1)
"""The share of right answers."""
