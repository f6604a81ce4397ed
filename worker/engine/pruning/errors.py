"""Why there is nothing to prune."""

from worker.engine.errors import EngineError


class NoWeightsToPrune(EngineError):
    """No layer is left whose single weights could be set to zero."""

    code = "prune.no_weights"
    remedy = "Widen `include`, shorten `exclude`, use a pattern whose blocks divide the inputs, or drop the step."
