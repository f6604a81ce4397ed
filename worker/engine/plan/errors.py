"""Why there is no plan."""

from worker.engine.errors import EngineError


class NothingToQuantize(EngineError):
    """No operator that is left after the skip list has a quantized form."""

    code = "step.nothing_to_quantize"
    remedy = "Shorten the skip list, or take a step that suits the model's operators."
