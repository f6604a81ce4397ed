"""Why the engine gave up: each class is one documented code that a failed job carries."""

from app.errors import PareError


class EngineError(PareError):
    """Anything that stops the work on a model."""


class LoadFailed(EngineError):
    """The model passed admission, but the library that runs it could not load it."""

    code = "model.load_failed"
    remedy = "Load and run the file on your machine, export it again with a current exporter, and upload that."


class PlanNotSupported(EngineError):
    """A target cannot carry out the kind of quantization that the steps ask for."""

    code = "target.plan_not_supported"
    remedy = "Use quantize.static for this target, or deliver for another one."


class Unconvertible(EngineError):
    """A target's converter or runtime has no form for something in this model."""

    code = "toolchain.unsupported"
    remedy = "Deliver for another target, or replace the operator named in the detail and export the model again."
