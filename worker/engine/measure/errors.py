"""Why a result could not be measured."""

from worker.engine.errors import EngineError


class EvaluationError(EngineError):
    """Anything that keeps a delivered artifact from being measured."""


class ModelRunFailed(EvaluationError):
    """ONNX Runtime could not load or run the original or the delivered model on the evaluation's rows."""

    code = "evaluate.run_failed"
    remedy = "Run the model on a few of these rows on your machine; check shapes, dtypes and preprocessing of the data."


class ArtifactRunFailed(EvaluationError):
    """The delivered artifact could not be loaded or run on rows that the original answers."""

    code = "evaluate.artifact_failed"
    remedy = "The delivered file is at fault, not the model: deliver for another target, and report it as a bug."


class OutputMissing(EvaluationError):
    """The delivered model and the original do not have the same outputs."""

    code = "evaluate.output_missing"
    remedy = "The delivered file is at fault, not the model: deliver for another target, and report it as a bug."


class MetricNotApplicable(Exception):
    """The labels do not fit a metric: it is left out with a note, since the rest of the result is good."""


class ParityExceeded(EngineError):
    """An artifact in another format computes something else than the model it was made from."""

    code = "target.parity"
    remedy = "Deliver for another target, and report the model: its conversion went wrong."
