"""Whether labels fit an output, and metrics can be measured on both: told from the shapes, as the worker reads them."""

from app.services.errors import LabelsOutOfRange, MetricNotMeasurable, NeedsData
from app.spec.data import LABELS, ArraySpec, DatasetInfo
from app.spec.job import JobSpec
from app.spec.metrics import METRICS, Obstacle
from app.spec.scores import class_axis, fits
from app.spec.signature import ModelInfo, TensorSpec
from app.spec.transforms import written


def check_metrics(spec: JobSpec, info: ModelInfo, test: DatasetInfo | None) -> str | None:
    """Why the metrics cannot be measured on the test data, if they are the default.

    Where they were asked for, that is an error: raises `NeedsData`, `MetricNotMeasurable`; and `LabelsOutOfRange`.
    """
    asked = "metrics" in spec.evaluate.model_fields_set or bool(spec.evaluate.limits.max_drop)
    output = _judged_output(spec, info)
    for metric in spec.evaluate.metrics:
        if test is None or LABELS not in test.arrays:
            missing = "the job names no test data" if test is None else f"the test data has no labels '{LABELS}'"
            if asked:
                raise NeedsData(f"{metric} cannot be measured: {missing}.", pointer="/evaluate/metrics")
            return missing
        obstacle = METRICS[metric].obstacle(output, test.arrays[LABELS])
        if obstacle is not None:
            if asked:
                detail = f"{metric} cannot be measured: {obstacle.reason}."
                remedy = f"{obstacle.remedy}{_measurable(output, test.arrays[LABELS])}"
                raise MetricNotMeasurable(detail, pointer="/evaluate/metrics", remedy=remedy)
            return obstacle.reason
    if test is not None and any(METRICS[metric].numbers_classes for metric in spec.evaluate.metrics):
        check_labels(output, test, pointer="/data/test", axis=class_axis(len(output.shape)))
    return None


def learnable(output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
    """Find what keeps an output from learning labels: numbers of its classes, or values of its shape."""
    if fits(output, labels):
        return None
    axis = class_axis(len(output.shape))
    places = written((*output.shape[1:axis], *output.shape[axis + 1 :]))
    return Obstacle(
        f"output '{output.name}' is {output.dtype} of shape {written(output.shape)}, a row of the labels "
        f"{labels.dtype} of shape {written(labels.shape[1:])}",
        f"Send class numbers of shape {places} per row or values shaped like the output, or name the output that the "
        "labels belong to in the step's `output`.",
    )


def check_labels(output: TensorSpec, info: DatasetInfo, pointer: str, *, axis: int = -1) -> None:
    """Require that integer labels number classes, which `axis` of the output counts; raises `LabelsOutOfRange`."""
    classes = output.shape[axis]
    if info.label_range is None or not isinstance(classes, int):
        return
    low, high = info.label_range
    if low < 0 or high >= classes:
        raise LabelsOutOfRange(
            f"The labels run from {low} to {high}; output '{output.name}' has {classes} classes (0 to {classes - 1}).",
            pointer=pointer,
        )


def _measurable(output: TensorSpec, labels: ArraySpec) -> str:
    """What could be asked for instead, as a sentence."""
    names = [metric.name for metric in METRICS.values() if metric.obstacle(output, labels) is None]
    return f" These labels allow: {', '.join(names)}." if names else ""


def _judged_output(spec: JobSpec, info: ModelInfo) -> TensorSpec:
    outputs = {output.name: output for output in info.signature.outputs}
    if spec.evaluate.output is None:
        return info.signature.outputs[0]
    if spec.evaluate.output not in outputs:
        raise MetricNotMeasurable(
            f"The model has no output '{spec.evaluate.output}'; its outputs are {', '.join(outputs)}.",
            pointer="/evaluate/output",
            remedy="Name one of them, or leave `evaluate.output` out: metrics judge the first.",
        )
    return outputs[spec.evaluate.output]
