"""Why a result could not be measured."""

from worker.engine.errors import EngineError


class EvaluationError(EngineError):
    """Anything that keeps a delivered artifact from being measured."""


class ModelRunFailed(EvaluationError):
    """ONNX Runtime could not load or run the original or the delivered model on the evaluation's rows."""

    code = "evaluate.run_failed"
    remedy = "Run the model on a few of these rows on your machine; check shapes, dtypes and preprocessing of the data."


class OutputMissing(EvaluationError):
    """The delivered model and the original do not have the same outputs."""

    code = "evaluate.output_missing"
    remedy = "Export the model again with named outputs and upload that; report the file if it still happens."


class LabelOutOfRange(EvaluationError):
    """A label is not the index of one of the model's classes."""

    code = "evaluate.label_out_of_range"
    remedy = "Labels `y` count from 0 to the number of the first output's columns - 1; map them and upload again."


class LabelsNotClasses(EvaluationError):
    """A classification metric was asked for, but the labels are not integers."""

    code = "evaluate.labels_not_classes"
    remedy = "Store `y` as integers, or ask for `mse` in `evaluate.metrics`."


class LabelShapeMismatch(EvaluationError):
    """The labels' shape does not fit the model's first output and the metric."""

    code = "evaluate.label_shape"
    remedy = "top1 and top5 need scores [rows, classes] and one label per row; mse needs labels shaped like the output."
