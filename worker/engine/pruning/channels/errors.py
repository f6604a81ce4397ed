"""Why channels were not removed."""

from worker.engine.errors import EngineError


class NothingToPrune(EngineError):
    """No channel of the model can be removed under the step's conditions."""

    code = "prune.nothing"
    remedy = (
        "Lower round_to or raise the ratio, widen include, or drop the step; inspecting the model lists the groups."
    )


class UnknownLayer(EngineError):
    """A pattern of a pruning step matches no layer that can be pruned."""

    code = "prune.unknown_layer"
    remedy = "Use a layer name or pattern such as 'layer4.*'; inspecting the model lists the layers."


class TargetUnreachable(EngineError):
    """Even the most that may be removed leaves more than the step's target."""

    code = "prune.target_unreachable"
    remedy = "Raise the target, lower round_to or min_channels, or exclude less."


class NotExact(EngineError):
    """The pruned model does not compute what the original does with the same channels set to zero."""

    code = "prune.not_exact"
    remedy = "Exclude the layers around the operators that the report lists, and report the model."
