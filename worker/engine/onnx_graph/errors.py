"""Why a program has no ONNX form."""

from worker.engine.errors import EngineError


class ExportFailed(EngineError):
    """A PyTorch program could not be expressed as ONNX, or the ONNX graph computed something else."""

    code = "model.export_failed"
    remedy = "Replace the operator named in the detail, or export the model to ONNX yourself and upload the .onnx file."
