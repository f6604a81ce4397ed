"""Why a device has no figures for an artifact."""

from app.spec.targets import TARGETS
from worker.engine.errors import EngineError

RUN_ELSEWHERE = " or ".join(kind.kind() for kind in TARGETS if kind.agent_runtime is not None)
"""The formats whose runtimes are small enough for other machines than a worker."""


class DeviceError(EngineError):
    """Anything that keeps an artifact from being tried on a device; the other devices are not affected."""


class DeviceFailed(DeviceError):
    """An artifact could not be tried on a device, for a reason without a code of its own."""

    code = "device.failed"
    remedy = "Read the job's log for the place; leave the device out, and report it as a bug."


class AnswersMissing(DeviceError):
    """A device ran an artifact and did not return what the model computes."""

    code = "device.answers_missing"
    remedy = "Try the artifact on the device by hand, as its USAGE text says; its runtime may be another release."


class FormatNotRun(DeviceError):
    """The device has no runtime for the artifact's format."""

    code = "device.format_not_run"
    remedy = f"Add a target that agents run ({RUN_ELSEWHERE}), or leave the device out."


class NotFitted(DeviceError):
    """The latency of a network cannot be estimated: too little is published of networks like it."""

    code = "device.not_fitted"
    remedy = "Measure it: enrol the device with an agent; GET /devices/estimated lists what is published of each."


class NoRuntimeThere(DeviceError):
    """An artifact is in a format that a device has no runtime for."""

    code = "device.no_runtime"
    remedy = f"Add a target that runs there ({RUN_ELSEWHERE}), or leave the device out."


class IllegalInstruction(DeviceError):
    """The runtime gave an instruction that the device's CPU does not have; a real one would end it likewise."""

    code = "device.illegal_instruction"
    remedy = "Deliver for this CPU (the profiles arm and x86-legacy of onnx), or use a runtime's build that suits it."


class DeviceCrashed(DeviceError):
    """The runtime crashed on the device."""

    code = "device.crashed"
    remedy = "Try the artifact on the device by hand, as its USAGE text says; deliver for another target."


class DeviceTooSlow(DeviceError):
    """The device answered not one batch of rows in the time that it is given."""

    code = "device.too_slow"
    remedy = "Leave the device out for a model of this size, or use one that is not emulated."
