"""The mean squared difference of an output to its labels."""

from app.spec.data import ArraySpec
from app.spec.metrics.base import Error, Obstacle
from app.spec.scores import comparable
from app.spec.signature import TensorSpec
from app.spec.transforms import written


class MeanSquaredError(Error):
    """Mean over the rows of the mean squared difference of an output to labels of its shape."""

    name = label = "mse"

    def obstacle(self, output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
        if output.shape and comparable(output.shape[1:], labels.shape[1:]):
            return None
        return Obstacle(
            f"output '{output.name}' has the shape {written(output.shape)}, "
            f"a row of the labels {written(labels.shape[1:])}",
            "Send labels `y` shaped like the output, or name the output that they belong to in `evaluate.output`.",
        )
