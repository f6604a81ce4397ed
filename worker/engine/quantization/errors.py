"""Why calibration failed."""

from worker.engine.errors import EngineError


class CalibrationFailed(EngineError):
    """Activation ranges could not be measured on the calibration data."""

    code = "step.calibration_failed"
    remedy = "Check the calibration data and its preprocessing: finite values, as in training, at least one row."
