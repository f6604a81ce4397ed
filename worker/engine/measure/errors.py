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


class MetricNotApplicable(Exception):
    """The labels do not fit a metric: it is left out with a note, since the rest of the result is good."""


class ParityExceeded(EngineError):
    """An artifact in another format computes something else than the model it was made from."""

    code = "target.parity"
    remedy = "Deliver for another target, and report the model: its conversion went wrong."
