"""Why an ONNX graph is no program: each names the node."""

from worker.engine.errors import EngineError


class NotImported(EngineError):
    """No program can be made of an ONNX file."""


class OperatorNotImported(NotImported):
    """The importer has no form for an operator of an ONNX graph, or not with these attributes."""

    code = "import.operator"
    remedy = "Take steps and targets that work on the ONNX file itself, or export the model without this operator."


class NotConstant(NotImported):
    """A number that shapes the program, such as a size or a trip count, depends on the values that the model is given.

    A program's structure is fixed; only sizes of its inputs may vary.
    """

    code = "import.not_constant"
    remedy = "Export the model with this value fixed, or simplify it with onnxsim, and upload that."


class SizesFixed(NotImported):
    """A dimension that the ONNX file declares to vary is fixed by a number written into its graph."""

    code = "import.sizes_fixed"
    remedy = "Export the model with this dimension dynamic, or with a fixed size if it never varies."


class ImportDiffers(NotImported):
    """The program made of an ONNX graph does not compute what ONNX Runtime computes with the file."""

    code = "import.differs"
    remedy = "Take steps and targets that work on the ONNX file itself, and report the operator named in the detail."


class ImportFailed(NotImported):
    """PyTorch raised an error at one node of an ONNX graph, or while the whole of it was exported."""

    code = "import.failed"
    remedy = "Run the file in ONNX Runtime on data of the declared shapes; if that works, report the detail."
