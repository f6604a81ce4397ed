"""Training on labels, to win back what an earlier step lost or to adapt a model to other data."""

from typing import Literal

from app.spec.training import Training


class FineTune(Training):
    """Train the whole model on the labels `y`: cross-entropy for class numbers, mean squared error for values.

    Weights that were pruned before stay zero.
    """

    type: Literal["finetune"] = "finetune"
