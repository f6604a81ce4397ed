"""Training a student to give a teacher's answers."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.spec.architecture import Architecture
from app.spec.base import Frozen, ModelId, Needs, OnlyWith
from app.spec.scores import class_axis
from app.spec.signature import Signature, TensorSpec
from app.spec.training import OutputName, Training

DistillLoss = Literal["dist", "kd", "kd_standardized", "mse", "features"]
TEMPERATURE = {"kd": 1.0, "kd_standardized": 2.0, "dist": 1.0}
ALPHA = {"kd": 0.7, "kd_standardized": 0.9, "dist": 0.9, "mse": 0.3, "features": 0.5}
"""Of each loss, like the temperature: what was best for a small student with few labels in `bench/distillation.py`,
which measures neither features nor a student that has been trained before."""
SCORED: frozenset[DistillLoss] = frozenset({"dist", "kd", "kd_standardized"})
"""Losses that compare probabilities of classes."""


MatchedOutputs = Literal["all"] | Annotated[tuple[OutputName, ...], Field(min_length=1, max_length=64)] | None
"""Outputs of a student that are to agree with a teacher's; None: the one that learns the labels."""


class FeatureMatch(Frozen):
    """Two places whose values are to agree, learned together with a projection where their widths differ."""

    student: str = Field(min_length=1, max_length=200, description="Node of the student's graph, such as 'relu_3'.")
    teacher: str = Field(
        min_length=1, max_length=200, description="Node of the teacher's graph; of an ONNX file, a node or a value."
    )
    weight: float = Field(1.0, gt=0, le=1000, description="Factor of this pair in the loss.")


class Distill(Training):
    """Train a student on a teacher's answers: the model as it is now, or a network of a known architecture anew.

    The loss is (1 - alpha) x the loss of the labels + alpha x the distance from the teacher.
    """

    type: Literal["distill"] = "distill"
    teacher: ModelId | Literal["input"] = Field(
        "input", description="Another uploaded model, .pt2 or ONNX; 'input': the job's model before any step."
    )
    student: Architecture | None = Field(
        None, description="A network to train from a random start. Left out: the model as the steps before left it."
    )
    loss: DistillLoss = Field(
        "dist",
        description="Distance from the teacher: correlation of probabilities between and within classes (dist), the "
        "divergence of softened probabilities (kd), the same of standardized scores (kd_standardized), the squared "
        "error of outputs that are no scores (mse), or the matched features alone (features).",
    )
    temperature: Annotated[
        float | None, OnlyWith("loss", ("dist", "kd", "kd_standardized"), "a loss of probabilities: dist, kd, ...")
    ] = Field(
        None, gt=0, le=100, description="Softens probabilities. Left out: 2 for kd_standardized, 1 for dist and kd."
    )
    alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the teacher; 1 needs no labels. Left out: 0.9 for dist and kd_standardized, 0.7 for kd, "
        "0.3 for mse, 0.5 for features.",
    )
    outputs: Annotated[
        MatchedOutputs, OnlyWith("loss", ("dist", "kd", "kd_standardized", "mse"), "another loss than 'features'")
    ] = Field(
        None,
        description="Outputs that are to agree with the teacher's outputs of the same names, or at the same places; "
        "'all': every one. Their distances are averaged. Left out: the output that learns the labels.",
    )
    features: tuple[FeatureMatch, ...] = Field(
        (), max_length=16, description="Places inside of both networks that are to agree, besides the outputs."
    )

    @model_validator(mode="after")
    def _something_to_learn(self) -> "Distill":
        if self.loss == "features" and not self.features:
            raise ValueError("loss 'features' needs at least one pair in features")
        if self.share == 0:
            raise ValueError("alpha 0 leaves the teacher out: use finetune")
        return self

    @property
    def share(self) -> float:
        """Alpha, or the default of the loss."""
        return ALPHA[self.loss] if self.alpha is None else self.alpha

    @property
    def softness(self) -> float:
        """The temperature, or the default of the loss."""
        return TEMPERATURE.get(self.loss, 1.0) if self.temperature is None else self.temperature

    def requires(self) -> Needs:
        """The teacher's answers alone need no labels; a new student needs no graph of the model."""
        return Needs(train=True, labels=self.share < 1, trainable_graph=self.student is None)

    def models(self) -> tuple[ModelId, ...]:
        """The teacher, if it is another model."""
        return () if self.teacher == "input" else (self.teacher,)


def fitting_inputs(reader: Signature, given: Signature) -> dict[str, str] | None:
    """Inputs of `reader` with the inputs of `given` that feed them: by name, else by position; None if none do."""
    named = {tensor.name: tensor for tensor in given.inputs}
    if all(tensor.name in named for tensor in reader.inputs):
        pairs = [(tensor, named[tensor.name]) for tensor in reader.inputs]
    elif len(reader.inputs) == len(given.inputs):
        pairs = list(zip(reader.inputs, given.inputs, strict=True))
    else:
        return None
    fit = all(tensor.dtype == other.dtype and _same_sample(tensor, other) for tensor, other in pairs)
    return {tensor.name: other.name for tensor, other in pairs} if fit else None


def taught_outputs(step: Distill, teacher: Signature, student: Signature, output: str) -> dict[str, str] | str:
    """Outputs of the student with those of the teacher that they are to give, or why there are none, as a sentence.

    `output` is the one that learns the labels. Teachers' outputs are found by name, if all names are there, else by
    position; one of a student goes with the only one of a teacher.
    """
    if step.loss == "features":
        return {}
    ours = {output.name: output for output in student.outputs}
    wanted = list(ours) if step.outputs == "all" else list(step.outputs or (output,))
    if unknown := [name for name in wanted if name not in ours]:
        return f"The student has no output '{unknown[0]}' (but {_listed(student.outputs)})."
    pairs = _paired(wanted, teacher, student)
    if pairs is None:
        return f"The teacher returns {_listed(teacher.outputs)}, nothing to compare {_named(wanted)} with."
    for name, other in pairs.items():
        if not _same_sample(other, ours[name]):
            return f"The teacher returns {_written(other)}, the student {_written(ours[name])}."
        axes = len(ours[name].shape)
        if step.loss in SCORED and (axes < 2 or ours[name].shape[class_axis(axes)] == 1):
            return f"{step.loss} compares scores of classes; the student returns {_written(ours[name])}."
    return {name: other.name for name, other in pairs.items()}


def teacher_mismatch(step: Distill, teacher: Signature, student: Signature, output: str) -> str | None:
    """Why this student cannot learn from this teacher, as a sentence; None where it can, as far as is known."""
    if fitting_inputs(teacher, student) is None:
        return f"The teacher takes {_listed(teacher.inputs)}, the student {_listed(student.inputs)}."
    taught = taught_outputs(step, teacher, student, output)
    return taught if isinstance(taught, str) else None


def in_place_of(model: Signature, fresh: Signature) -> Signature:
    """A new network's signature with the names that the model's inputs and outputs have."""
    names = fitting_inputs(fresh, model) or {}
    return Signature(
        inputs=tuple(
            tensor.model_copy(update={"name": names.get(tensor.name, tensor.name)}) for tensor in fresh.inputs
        ),
        outputs=tuple(
            output.model_copy(update={"name": other.name})
            for output, other in zip(fresh.outputs, model.outputs, strict=True)
        ),
    )


def student_mismatch(fresh: Signature, model: Signature) -> str | None:
    """Why a new network cannot stand in for the model, as a sentence."""
    if len(fresh.outputs) != len(model.outputs) or fitting_inputs(fresh, model) is None:
        takes = f"{_listed(fresh.inputs)} to {_listed(fresh.outputs)}"
        return f"The student turns {takes}, the model {_listed(model.inputs)} to {_listed(model.outputs)}."
    for output, other in zip(fresh.outputs, model.outputs, strict=True):
        if not _same_sample(output, other):
            return f"The student returns {_written(output)}, the model {_written(other)}."
    return None


def _paired(wanted: list[str], teacher: Signature, student: Signature) -> dict[str, TensorSpec] | None:
    theirs = {output.name: output for output in teacher.outputs}
    if all(name in theirs for name in wanted):
        return {name: theirs[name] for name in wanted}
    if len(wanted) == len(teacher.outputs) == 1:
        return {wanted[0]: teacher.outputs[0]}
    places = {output.name: place for place, output in enumerate(student.outputs)}
    if any(places[name] >= len(teacher.outputs) for name in wanted):
        return None
    return {name: teacher.outputs[places[name]] for name in wanted}


def _same_sample(tensor: TensorSpec, other: TensorSpec) -> bool:
    """Whether the shapes of a row agree, as far as they are fixed."""
    return len(tensor.shape) == len(other.shape) and all(
        a == b
        for a, b in zip(tensor.shape[1:], other.shape[1:], strict=True)
        if isinstance(a, int) and isinstance(b, int)
    )


def _listed(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(map(_written, tensors))


def _named(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _written(tensor: TensorSpec) -> str:
    sizes = ", ".join(str(size) if isinstance(size, int) else size.name for size in tensor.shape)
    return f"'{tensor.name}' {tensor.dtype} [{sizes}]"
