"""Can a step train on these rows, and learn from this teacher? Told from what admission read."""

from collections.abc import Mapping

from app.admission.architectures import ArchitectureUnfit, UnknownArchitecture, network, signature
from app.services.errors import NeedsData, StepNotApplicable, TeacherUnfit
from app.services.scoring import check_labels, learnable
from app.spec.architecture import Architecture
from app.spec.base import ModelId, Step
from app.spec.data import LABELS, DatasetInfo
from app.spec.distill import Distill, in_place_of, student_mismatch, teacher_mismatch
from app.spec.job import Role
from app.spec.quantize_aware import QuantizeAware
from app.spec.scores import are_class_numbers, class_axis, comparable, trained_output
from app.spec.share import ShareWeights
from app.spec.signature import FLOATS, ModelInfo, Signature, TensorSpec
from app.spec.training import Training
from app.spec.transforms import written

LEARNED_FROM: tuple[Role, ...] = ("train", "validation")
IMAGE_AXES = 4
"""Rows, channels, height, width."""


def check_training(step: Step, info: ModelInfo, data: Mapping[Role, DatasetInfo], pointer: str) -> None:
    """Require that a step that trains can use the rows and its parameters.

    Raises `StepNotApplicable`, `NeedsData`, `LabelsOutOfRange`.
    """
    if isinstance(step, ShareWeights) and step.tune is not None:
        step, pointer = step.tune, f"{pointer}/tune"
    if not isinstance(step, Training):
        return
    output = _output(step, info, data, pointer)
    _check_augmentation(step, info, output, data, pointer)
    if step.requires().labels:
        for role in LEARNED_FROM:
            if role in data:
                _check_labels(step, output, data[role], role, pointer)
        _check_of_classes(step, output, data["train"], pointer)


def asks_for_gpu(step: Step) -> bool:
    """Whether a step has a use for float16 in its training."""
    training = step.tune if isinstance(step, ShareWeights) else step
    return isinstance(training, Training) and training.mixed_precision


def check_device(step: Step, device: str, pointer: str) -> None:
    """Require that a step asks for nothing that the device it is sent to has not; raises `StepNotApplicable`."""
    if asks_for_gpu(step) and device == "cpu":
        raise StepNotApplicable(
            "mixed_precision computes in float16 on a GPU; the job asks for the device 'cpu'.",
            pointer=f"{pointer}/mixed_precision" if isinstance(step, Training) else f"{pointer}/tune/mixed_precision",
            remedy="Leave `mixed_precision` out, or `device`: 'auto' takes a GPU where one is served.",
        )


def _output(step: Training, info: ModelInfo, data: Mapping[Role, DatasetInfo], pointer: str) -> TensorSpec:
    """The output that learns the labels; raises `StepNotApplicable` if none has the name that the step gives."""
    labels = data["train"].arrays.get(LABELS) if "train" in data else None
    output = trained_output(info.signature, labels, step.output)
    if output is None:
        names = ", ".join(f"'{output.name}'" for output in info.signature.outputs)
        raise StepNotApplicable(
            f"The model has no output '{step.output}'; its outputs are {names}.",
            pointer=f"{pointer}/output",
            remedy="Name one of them in `output`, or leave it out: the first that the labels fit is trained.",
        )
    return output


def _check_augmentation(
    step: Training, info: ModelInfo, output: TensorSpec, data: Mapping[Role, DatasetInfo], pointer: str
) -> None:
    images = [tensor for tensor in info.signature.inputs if len(tensor.shape) == IMAGE_AXES and tensor.dtype in FLOATS]
    if step.augment and not images:
        raise StepNotApplicable(
            "No input of the model is a batch of images: there is nothing to augment.",
            pointer=f"{pointer}/augment",
            remedy="Leave `augment` out: it changes float inputs of shape [rows, channels, height, width].",
        )
    labels = data["train"].arrays.get(LABELS) if "train" in data else None
    if not step.augment or labels is None or not step.requires().labels or len(output.shape) < IMAGE_AXES:
        return
    sizes = {image.shape[-2:] for image in images}
    if not any(comparable(size, labels.shape[-2:]) for size in sizes):
        raise StepNotApplicable(
            f"The labels of the output '{output.name}' have {written(labels.shape[-2:])} places, the images "
            f"{' or '.join(written(size) for size in sizes)}: they cannot be moved along.",
            pointer=f"{pointer}/augment",
            remedy="Leave `augment` out, or give labels of the images' height and width.",
        )


def _check_labels(step: Training, output: TensorSpec, rows: DatasetInfo, role: Role, pointer: str) -> None:
    if LABELS not in rows.arrays:
        raise NeedsData(
            f"The best epoch is chosen by labels; the data of the role {role} has no array '{LABELS}'.",
            pointer=f"/data/{role}",
            remedy=f"Add the labels as '{LABELS}', or leave the role out: some training rows are held out then.",
        )
    obstacle = learnable(output, rows.arrays[LABELS])
    if obstacle is not None:
        detail = f"The model cannot learn the labels of the role {role}: {obstacle.reason}."
        place = f"/data/{role}" if step.output is None else f"{pointer}/output"
        raise StepNotApplicable(detail, pointer=place, remedy=obstacle.remedy)
    if are_class_numbers(output, rows.arrays[LABELS]):
        check_labels(output, rows, axis=class_axis(len(output.shape)), pointer=f"/data/{role}")


def _check_of_classes(step: Training, output: TensorSpec, rows: DatasetInfo, pointer: str) -> None:
    for name, given in (("class_weights", step.class_weights), ("label_smoothing", step.label_smoothing)):
        if given and not are_class_numbers(output, rows.arrays[LABELS]):
            raise StepNotApplicable(
                f"{name} needs labels that are class numbers; these are values.",
                pointer=f"{pointer}/{name}",
                remedy=f"Leave `{name}` out.",
            )
    classes = output.shape[class_axis(len(output.shape))]
    if isinstance(step.class_weights, tuple) and isinstance(classes, int) and len(step.class_weights) != classes:
        raise StepNotApplicable(
            f"There are {len(step.class_weights)} class weights; output '{output.name}' has {classes} classes.",
            pointer=f"{pointer}/class_weights",
            remedy="Give one weight for each class, in the order of the output, or 'balanced'.",
        )


def check_teaching(
    step: Step, info: ModelInfo, others: Mapping[ModelId, ModelInfo], data: Mapping[Role, DatasetInfo], pointer: str
) -> None:
    """Require that a teacher and its student take and return the same, as far as their signatures tell.

    Raises `TeacherUnfit`, `UnknownArchitecture`, `ArchitectureUnfit`.
    """
    if isinstance(step, QuantizeAware):
        teaching, place = step.distillation(), "distill"
    else:
        teaching, place = (step, "teacher") if isinstance(step, Distill) else (None, "")
    if teaching is None or not isinstance(step, Training):
        return
    student = info.signature
    if teaching.student is not None:
        fresh = _fresh(teaching.student, f"{pointer}/student")
        unlike = student_mismatch(fresh, info.signature)
        if unlike is not None:
            remedy = "Set the architecture's `input` and num_classes to those of the model."
            raise TeacherUnfit(unlike, pointer=f"{pointer}/student", remedy=remedy)
        student = in_place_of(info.signature, fresh)
    teacher = info if teaching.teacher == "input" else others[teaching.teacher]
    unlike = teacher_mismatch(teaching, teacher.signature, student, _output(step, info, data, pointer).name)
    if unlike is not None:
        raise TeacherUnfit(unlike, pointer=f"{pointer}/{place if teaching.outputs is None else 'outputs'}")


def _fresh(architecture: Architecture, pointer: str) -> Signature:
    """What a new network takes and returns, if there is such a network."""
    try:
        network(architecture)
    except (UnknownArchitecture, ArchitectureUnfit) as error:
        error.pointer = pointer
        raise
    return signature(architecture)
