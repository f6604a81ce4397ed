"""The share of rows whose class is among the highest scores."""

from app.spec.data import ArraySpec
from app.spec.metrics.base import Obstacle, Share
from app.spec.scores import are_class_numbers, class_axis
from app.spec.signature import FLOATS, TensorSpec
from app.spec.transforms import written


class TopK(Share):
    """Share of labels, of rows, tokens or pixels, that are among the `rank` highest of their scores."""

    numbers_classes = True

    def __init__(self, rank: int) -> None:
        self.rank, self.name, self.label = rank, f"top{rank}", f"top-{rank}"

    def obstacle(self, output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
        return self._against_labels(output, labels) or self._against_scores(output)

    def _against_labels(self, output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
        if labels.dtype in FLOATS:
            return Obstacle(f"the labels are {labels.dtype}, not class numbers", "Store `y` as integers.")
        if len(output.shape) < 2 or are_class_numbers(output, labels):
            return None
        if len(output.shape) == 2 and labels.shape[1:] in {(), (1,)}:
            return None
        if labels.shape[1:] in {(), (1,)}:
            return self._no_scores(output)
        return Obstacle(
            f"a row of the labels has the shape {written(labels.shape[1:])}, not one class number for each row, token "
            f"or pixel of output '{output.name}', {written(output.shape)}",
            "Send one class number per row, token or pixel (one-hot labels: y.argmax over the classes).",
        )

    def _against_scores(self, output: TensorSpec) -> Obstacle | None:
        if len(output.shape) < 2:
            return self._no_scores(output)
        classes = output.shape[class_axis(len(output.shape))]
        if classes == 1:
            return Obstacle(
                f"output '{output.name}' has a single column", "Export two class scores instead of one probability."
            )
        if isinstance(classes, int) and classes <= self.rank:
            return Obstacle(f"with {classes} classes every answer is right", "Leave it out.")
        return None

    def _no_scores(self, output: TensorSpec) -> Obstacle:
        return Obstacle(
            f"output '{output.name}' is {output.dtype} of shape {written(output.shape)}, not scores [rows, classes]",
            "Name an output with scores of every class in `evaluate.output` (not their argmax).",
        )


TOP1 = TopK(1)
"""The share of right answers."""
