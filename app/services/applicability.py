"""Whether the steps of a job can be taken with its model and data, and delivered for its targets."""

from collections.abc import Iterator, Mapping

from app.services.errors import MetricNotMeasurable, NeedsData, StepNotApplicable
from app.services.learning import check_device, check_training
from app.spec.data import LABELS, DatasetInfo
from app.spec.job import JobSpec, Role
from app.spec.signature import FLOATS, ModelInfo
from app.spec.steps import AnyStep


def check_steps(spec: JobSpec, info: ModelInfo, data: Mapping[Role, DatasetInfo]) -> Iterator[str]:
    """Require that every step can be taken and every target delivered; yields what the job's owner should know.

    Raises `StepNotApplicable`, `NeedsData`, `MetricNotMeasurable`, `LabelsOutOfRange`.
    """
    for position, step in enumerate(spec.steps):
        pointer = f"/steps/{position}"
        _check_needs(step, info, data, pointer)
        check_device(step, spec.device, pointer)
        check_training(step, info, data, pointer)
        for target in spec.targets:
            place = target.label
            if not target.supports(step.kind()):
                raise StepNotApplicable(f"{step.kind()} cannot be delivered for {place}.", pointer=pointer)
            if refused := sorted(demand for demand in step.demands() if not target.supports(demand)):
                raise StepNotApplicable(
                    f"{step.kind()} cannot be delivered for {place}: it has no {refused[0]}.",
                    pointer=pointer,
                    remedy="Change the step's parameters, or put this target into a job of its own.",
                )
    _check_precision(spec, info)
    _check_targets(spec, info)
    _check_speed_limit(spec)
    if not spec.steps and not spec.artifacts:
        yield "The job has no steps: the model is only exported and measured."


def _check_needs(step: AnyStep, info: ModelInfo, data: Mapping[Role, DatasetInfo], pointer: str) -> None:
    needs = step.requires()
    if needs.calibration and "calibration" not in data:
        raise NeedsData(f"{step.kind()} measures on calibration data; the job names none.", pointer=pointer)
    if needs.train and "train" not in data:
        raise NeedsData(
            f"{step.kind()} trains the model; the job names no training data.",
            pointer=pointer,
            remedy="Name a data set, or a split of one, in `data.train`.",
        )
    learns_from: Role = "train" if needs.train else "calibration"
    if needs.labels and LABELS not in data[learns_from].arrays:
        raise NeedsData(
            f"{step.kind()} learns from labels; the data in the role {learns_from} has no array '{LABELS}'.",
            pointer=pointer,
            remedy=f"Add the labels as '{LABELS}', or use distill without labels (alpha 1).",
        )
    if (needs.trainable_graph or needs.parameters) and info.format != "onnx" and not info.parameters:
        raise StepNotApplicable(
            f"{step.kind()} changes or trains parameters; the model has none: its weights are buffers or constants.",
            pointer=pointer,
            remedy="Make the weights nn.Parameter and export the module itself, neither frozen nor traced.",
        )


def check_importable(spec: JobSpec, not_imported: str) -> None:
    """Require that no step or target needs a program of an ONNX file of which a worker could make none, and why.

    Raises `StepNotApplicable`.
    """
    remedy = "Upload the model as .pt2 (torch.export.save), or take steps and targets that work on the ONNX file."
    for position, step in enumerate(spec.steps):
        if step.requires().trainable_graph:
            detail = f"{step.kind()} changes or trains a program; none can be made of the ONNX file. {not_imported}"
            raise StepNotApplicable(detail, pointer=f"/steps/{position}", remedy=remedy)
    for position, target in enumerate(() if spec.artifacts else spec.targets):
        if target.needs_program:
            detail = f"{target.label} is made from a program; none can be made of the ONNX file. {not_imported}"
            raise StepNotApplicable(detail, pointer=f"/targets/{position}", remedy=remedy)


def _check_precision(spec: JobSpec, info: ModelInfo) -> None:
    """Refuse to quantize a model of another precision than float32, which its inputs give away."""
    floats = {tensor.dtype for tensor in info.signature.inputs if tensor.dtype in FLOATS}
    if not floats or "float32" in floats:
        return
    for position, step in enumerate(spec.steps):
        if step.quantizes:
            raise StepNotApplicable(
                f"{step.kind()} quantizes float32 weights; this model's inputs are {min(floats)}.",
                pointer=f"/steps/{position}",
                remedy="Export the model in float32: model.float() before the export.",
            )


def _check_targets(spec: JobSpec, info: ModelInfo) -> None:
    for position, target in enumerate(spec.targets):
        if target.needs_calibration and spec.data.calibration is None:
            raise NeedsData(
                f"{target.label} measures on calibration data; the job names none.", pointer=f"/targets/{position}"
            )
        last = target.last_opset
        if last is not None and info.opset is not None and info.opset > last:
            raise StepNotApplicable(
                f"The model has opset {info.opset}; {target.label} reads up to {last}.",
                pointer=f"/targets/{position}",
                remedy=f"Export the model with opset {last} or earlier.",
            )


def _check_speed_limit(spec: JobSpec) -> None:
    untimed = [target.label for target in spec.targets if not target.timed]
    if spec.evaluate.limits.min_speedup is not None and untimed:
        raise MetricNotMeasurable(
            f"No worker measures the speed of {untimed[0]}, so `min_speedup` would always be missed.",
            pointer="/evaluate/limits/min_speedup",
            remedy="Leave the limit out, or put this target into a job of its own.",
        )
