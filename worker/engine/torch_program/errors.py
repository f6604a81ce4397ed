"""Why a model is no exported program any more."""

from worker.engine.errors import EngineError


class ReexportFailed(EngineError):
    """After a step the model could no longer be exported: the step is at fault, or the graph fixes its batch."""

    code = "model.reexport_failed"
    remedy = "Export the model with a dynamic batch and an example of two rows or more; if it was, report the model."


class InconsistentModel(EngineError):
    """The loaded model's inputs or outputs are not the ones its file declared when it was admitted."""

    code = "model.inconsistent"
    remedy = "Export the model again and upload it; report the file if it comes from an unmodified exporter."
