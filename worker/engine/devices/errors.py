"""Why a device has no figures for an artifact."""

from worker.engine.errors import EngineError


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


class NotFitted(DeviceError):
    """The latency of a network cannot be estimated: too little is published of networks like it."""

    code = "device.not_fitted"
    remedy = "Measure it: enrol the device with an agent; GET /devices/estimated lists what is published of each."
