"""How a model is trained: what fine-tuning, distillation, quantization-aware training and their like have in common."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from app.spec.base import Frozen, Needs, OnlyWith, Step


class RandomFlip(Frozen):
    """Mirror an image, left to right or top to bottom."""

    type: Literal["random_flip"] = "random_flip"
    axis: Literal["horizontal", "vertical"] = "horizontal"
    probability: float = Field(0.5, gt=0, le=1, description="Share of the rows that are mirrored.")


class RandomCrop(Frozen):
    """Pad an image with zeros on all sides, and cut its own size out of the result at a random place."""

    type: Literal["random_crop"] = "random_crop"
    padding: int = Field(4, ge=1, le=256, description="Pixels added on each side.")


Augmentation = Annotated[RandomFlip | RandomCrop, Field(discriminator="type")]


ClassWeights = Literal["balanced"] | tuple[Annotated[float, Field(ge=0)], ...]
DECAYS = OnlyWith("schedule", ("step",), "schedule 'step'")
LABELLED = OnlyWith("learns_labels", (True,), "labels to learn from, which alpha 1 leaves out")
OutputName = Annotated[str, Field(min_length=1, max_length=200)]


class Training(Step):
    """The parameters of every step that trains. The best epoch is chosen on the role `validation`, never on `test`."""

    output: OutputName | None = Field(
        None,
        description="The output that learns the labels, by its name: scores [rows, classes], [rows, tokens, classes] "
        "or [rows, classes, height, width] for class numbers, anything for values of its shape. Left out: the first "
        "one that the labels fit.",
    )
    epochs: int = Field(10, ge=1, le=1000, description="Passes over the training rows.")
    batch: int = Field(64, ge=1, le=65_536, description="Rows in one optimizer step.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or SGD with Nesterov momentum.")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="The largest one: after warmup, before the decay.")
    weight_decay: float = Field(1e-2, ge=0, le=1, description="Of weights with two axes or more, not of biases.")
    momentum: Annotated[float, OnlyWith("optimizer", ("sgd",), "optimizer 'sgd'")] = Field(
        0.9, ge=0, lt=1, description="Of SGD; 0: none."
    )
    schedule: Literal["cosine", "step", "constant"] = Field("cosine", description="How the learning rate decays.")
    decay_epochs: Annotated[int, DECAYS] = Field(
        30, ge=1, le=1000, description="Epochs between two decays (schedule 'step')."
    )
    decay_factor: Annotated[float, DECAYS] = Field(
        0.1, gt=0, lt=1, description="Factor of one decay (schedule 'step')."
    )
    warmup_epochs: float = Field(0, ge=0, le=100, description="Epochs over which the learning rate rises linearly.")
    patience: int | None = Field(
        None, ge=1, le=1000, description="Stop after so many epochs without a better one. None: take all epochs."
    )
    class_weights: Annotated[ClassWeights | None, LABELLED] = Field(
        None,
        description="Weight of each class in the loss: a list in the order of the classes, or 'balanced', which makes "
        "every class count the same however few rows it has.",
    )
    label_smoothing: Annotated[float, LABELLED] = Field(
        0, ge=0, lt=1, description="Share of the target spread over all classes."
    )
    clip_norm: float | None = Field(None, gt=0, description="Largest norm of the gradient. None: not clipped.")
    mixed_precision: bool = Field(
        False,
        description="Compute in float16 where that is safe, on a GPU. A worker without one trains in float32 "
        "and says so; with `device` 'cpu' it is refused.",
    )
    augment: tuple[Augmentation, ...] = Field(
        (), max_length=8, description="Applied in order to every float input [rows, channels, height, width]."
    )

    needs: ClassVar[Needs] = Needs(train=True, labels=True, trainable_graph=True)

    @property
    def learns_labels(self) -> bool:
        """Whether the loss has a share of the labels."""
        return self.requires().labels

    @model_validator(mode="after")
    def _warmup_ends(self) -> "Training":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs:g}, of {self.epochs} epochs in all: lower it")
        if isinstance(self.class_weights, tuple) and not any(self.class_weights):
            raise ValueError("class_weights are all 0, so nothing would be learned: give at least one class a weight")
        return self
