"""Why a file was not let in. Texts name members, tensors and operators, never a path on the server.

`Broken`, `Unsafe` and `Inflating` are raised by readers that serve models and data sets alike;
`admit_model` and `admit_dataset` turn them into the code of what was uploaded.
"""

from typing import ClassVar

from app.errors import PareError

EXPORT = "Send an ONNX file, or a .pt2 written by torch.export.save (torch >= 2.8)."


class Broken(Exception):
    """The bytes do not follow their own format."""


class Unsafe(Exception):
    """The bytes carry something that a loader would execute."""


class Inflating(Exception):
    """Compressed data would grow beyond what is allowed, or beyond what it declares."""


class AdmissionError(PareError):
    """A file that is not fit to be loaded. Never raised itself."""


class EmptyUpload(AdmissionError):
    """The upload has no bytes."""

    code = "upload.empty"
    remedy = "Check the file and the client's body, then upload again."


class TooManyMembers(AdmissionError):
    """An archive has more members than any model or data set needs."""

    code = "archive.too_many_members"
    remedy = "Pack only the files that belong to the model or the data set."


class MalformedModel(AdmissionError):
    """The model file does not follow its format: it is truncated, damaged or contradicts itself."""

    code = "model.malformed"
    remedy = "Export and upload the model again; compare the SHA-256 of both files."


class UnsafePickle(AdmissionError):
    """The model carries pickled objects, which run code when they are loaded."""

    code = "model.unsafe_pickle"
    remedy = "Re-export with torch >= 2.8 and torch.export.save: plain tensors only, no custom objects."


class UnsupportedModel(AdmissionError):
    """The file is of a kind that is not accepted as a model."""

    code: ClassVar[str] = "model.unsupported_format"
    status = 415
    remedy = EXPORT


class UnsupportedOperator(AdmissionError):
    """The model uses an operator, or another feature of its format, that is not accepted."""

    code = "model.unsupported_op"
    remedy = "Export the model without it, or define it in the file as a local function of standard operators."


class UnsupportedType(AdmissionError):
    """An input or output is not a dense tensor of numbers with a declared shape."""

    code = "model.unsupported_type"
    remedy = "Give the model tensor inputs and outputs only, and export again."


class TooComplex(AdmissionError):
    """The model has more nodes, nesting or fields than is accepted."""

    code = "model.too_complex"
    remedy = "Export a smaller graph: 50,000 nodes at most, after local functions are inlined."


class TooLarge(AdmissionError):
    """The model makes or takes a tensor larger than is accepted."""

    code = "model.too_large"
    remedy = "Keep constants, inputs and intermediate tensors of fixed shape below 2^28 elements."


class OutdatedModel(AdmissionError):
    """The model is of a version of its format that is no longer accepted."""

    code = "model.outdated_format"
    remedy = "Re-export with torch >= 2.8, or convert an ONNX file: onnx.version_converter.convert_version(model, 17)."


class UnsupportedDataset(AdmissionError):
    """The file is of a kind that is not accepted as a data set."""

    code = "dataset.unsupported_format"
    status = 415
    remedy = (
        "Send an .npz of named arrays: np.savez(file, input_name=array, y=labels); or a zip or tar with a folder of "
        "PNG or JPEG files for each class."
    )


class UnsupportedDType(AdmissionError):
    """An array has a dtype that is not accepted."""

    code = "dataset.unsupported_dtype"
    remedy = "Convert it: floats, integers and booleans in little-endian order are accepted."


class DatasetTooLarge(AdmissionError):
    """The data set is larger than is accepted."""

    code = "dataset.too_large"
    remedy = "Send fewer rows; a few thousand suffice for calibration."


class NoRows(AdmissionError):
    """An array holds no values."""

    code = "dataset.no_rows"
    remedy = "Send at least one row; the first axis of every array counts the rows."


class RowMismatch(AdmissionError):
    """The arrays of the data set differ in their number of rows."""

    code = "dataset.row_mismatch"
    remedy = "Give every array the same first axis."
