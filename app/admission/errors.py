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


class UnsafeMember(AdmissionError):
    """An archive holds something other than plain files inside its own folder: a link, a device, a path that leaves."""

    code = "archive.unsafe_member"
    remedy = "Pack plain files with relative names, without links and without '..'."


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


class UnsafeExpression(AdmissionError):
    """The model carries text that its loader would evaluate, and it is not plain arithmetic, a name or a type."""

    code = "model.unsafe_expression"
    remedy = "Export the model again with an unmodified torch.export.save."


class CustomCode(AdmissionError):
    """The Keras model has code in it, or names classes and functions that are not Keras's own layers."""

    code = "model.custom_code"
    remedy = "Build the model of Keras's own layers, without Lambda and custom objects; or export it to ONNX."


class NativeCode(AdmissionError):
    """The model carries compiled code."""

    code = "model.native_code"
    remedy = "Send the exported program (torch.export.save), not the compiled package."


class UnsupportedModel(AdmissionError):
    """The file is of a kind that is not accepted as a model."""

    code: ClassVar[str] = "model.unsupported_format"
    status = 415
    remedy = EXPORT


class TorchScriptRejected(AdmissionError):
    """TorchScript runs code while it is loaded, so it is not accepted."""

    code = "model.torchscript_rejected"
    status = 415
    remedy = "Export the original module: torch.export.save(torch.export.export(model.eval(), args), 'model.pt2')."


class ExternalData(AdmissionError):
    """The ONNX file keeps tensors in another file that is missing, too short, or outside of the upload."""

    code = "model.external_data"
    remedy = "Upload a zip or tar of the .onnx file and its tensor files, with the names that the .onnx file uses."


class UnsupportedOperator(AdmissionError):
    """The model uses an operator, or another feature of its format, that is not accepted."""

    code = "model.unsupported_op"
    remedy = "Export the model without it, or define it in the file as a local function of standard operators."


class UnsupportedType(AdmissionError):
    """An input or output is not a dense tensor of numbers with a declared shape."""

    code = "model.unsupported_type"
    remedy = "Give the model tensor inputs and outputs only, and export again."


class WrongDevice(AdmissionError):
    """The model was exported on a device other than the CPU, which is baked into it."""

    code = "model.wrong_device"
    remedy = "Export on the CPU: model.cpu().eval(), with CPU example inputs."


class TooComplex(AdmissionError):
    """The model has more nodes, nesting or fields than is accepted."""

    code = "model.too_complex"
    remedy = "Export a smaller graph: 50,000 nodes at most, after local functions are inlined."


class TooLarge(AdmissionError):
    """The model makes or takes a tensor larger than is accepted."""

    code = "model.too_large"
    remedy = "Keep constants, inputs and intermediate tensors of fixed shape below 2^28 elements."


class ModelBomb(AdmissionError):
    """Compressed data in the model would grow beyond what is accepted."""

    code = "model.decompression_bomb"
    remedy = "Send the archive without compression."


class OutdatedModel(AdmissionError):
    """The model is of a version of its format that is no longer accepted."""

    code = "model.outdated_format"
    remedy = "Re-export with torch >= 2.8, or convert an ONNX file: onnx.version_converter.convert_version(model, 17)."


class UnknownArchitecture(AdmissionError):
    """The architecture is none of the torchvision networks that are known here."""

    code = "architecture.unknown"
    remedy = "Name a classification network of torchvision, such as torchvision:resnet50; docs/models.md lists them."


class ArchitectureUnfit(AdmissionError):
    """The architecture does not take one of its arguments, or pictures of this size."""

    code = "architecture.unfit"
    remedy = "Declare the arguments and the input that the weights were trained with."


class ArchitectureNotNeeded(AdmissionError):
    """An architecture was declared for a file that brings its own graph."""

    code = "architecture.not_needed"
    remedy = "Leave `architecture` out: it is for .safetensors and .pth files, which hold weights only."


class WeightsMismatch(AdmissionError):
    """The weights are not those of the declared architecture: tensors are missing, unexpected or of another shape."""

    code = "model.weights_mismatch"
    remedy = "Declare the architecture and `kwargs` (num_classes above all) that the weights were saved from."


class MalformedDataset(AdmissionError):
    """The data set does not follow its format: it is truncated, damaged or contradicts itself."""

    code = "dataset.malformed"
    remedy = "Write the file again (np.savez, zip, tar) and upload it again; compare the SHA-256 of both files."


class PickledDataset(AdmissionError):
    """The data set holds Python objects, which run code when they are loaded."""

    code = "dataset.unsafe_pickle"
    remedy = "Convert every array to a numeric dtype before np.savez."


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


class DatasetBomb(AdmissionError):
    """Compressed data in the data set would grow beyond what is accepted, or beyond what it declares."""

    code = "dataset.decompression_bomb"
    remedy = "Write it without compression: np.savez, zip -0, or tar."


class DatasetTooLarge(AdmissionError):
    """The data set is larger than is accepted."""

    code = "dataset.too_large"
    remedy = "Send fewer rows; a few thousand suffice for calibration."


class UnsupportedImage(AdmissionError):
    """A file in an image folder is no picture, or of a kind that is not accepted."""

    code = "dataset.unsupported_image"
    status = 415
    remedy = "Convert the pictures to JPEG or PNG of 8 bits per channel, and pack nothing else."


class ImageTooLarge(AdmissionError):
    """A picture has more pixels or bytes than is accepted."""

    code = "dataset.image_too_large"
    remedy = "Scale the pictures down before packing them; a model sees a few hundred pixels."


class FolderLayout(AdmissionError):
    """The folders of an image archive do not say what class each picture has."""

    code = "dataset.folder_layout"
    remedy = "Pack class/picture.jpg, all in one top folder if you like; or train/class/picture.jpg, test/class/..."


class NonFinite(AdmissionError):
    """A float array holds NaN or infinite values."""

    code = "dataset.non_finite"
    remedy = "Remove or replace them, for example with np.nan_to_num."


class NoRows(AdmissionError):
    """An array holds no values."""

    code = "dataset.no_rows"
    remedy = "Send at least one row; the first axis of every array counts the rows."


class RowMismatch(AdmissionError):
    """The arrays of the data set differ in their number of rows."""

    code = "dataset.row_mismatch"
    remedy = "Give every array the same first axis."


class ShapeMismatch(AdmissionError):
    """The declared shape of a column does not fit its values, or nested lists have none."""

    code = "dataset.shape_mismatch"
    remedy = "Declare the shape of a row in the data set's spec: {'shapes': {'image': [3, 32, 32]}}."


class TextArchiveUnfit(AdmissionError):
    """A zip of a Parquet file holds something else beside it and tokenizer.json, or has compressed it again."""

    code = "dataset.text_archive"
    remedy = "Pack the two files alone, without folders or compression: zip -0 -j data.zip rows.parquet tokenizer.json."


class TokenizerMissing(AdmissionError):
    """Text is to be tokenized, and the upload brings no tokenizer."""

    code = "dataset.tokenizer_missing"
    remedy = "Upload a zip with the model's tokenizer.json beside it: zip -0 -j data.zip rows.parquet tokenizer.json."


class TokenizerUnfit(AdmissionError):
    """The tokenizer.json is too large, no JSON, of an unknown kind, or has nothing to pad with."""

    code = "dataset.tokenizer_unfit"
    remedy = "Send what tokenizers writes: Tokenizer.save('tokenizer.json'), or save_pretrained of a fast tokenizer."


class NoText(AdmissionError):
    """A column that is to be tokenized is missing or holds no text, or an array that this makes exists already."""

    code = "dataset.no_text"
    remedy = "Name string columns of the Parquet file in `tokenize.text`, and unused names in ids, mask and types."


class FortranOrder(AdmissionError):
    """An array is stored column by column, so its rows cannot be streamed."""

    code = "dataset.fortran_order"
    remedy = "Store np.ascontiguousarray(array)."


class SplitEmpty(AdmissionError):
    """A declared split gets no rows."""

    code = "dataset.split_empty"
    remedy = "Raise the split's share or send more rows."


class UnknownInput(AdmissionError):
    """Preprocessing is declared for an array that the data set does not have."""

    code = "dataset.unknown_input"
    remedy = "Use the names of the data set's arrays ('image' for image folders); labels (y) are not preprocessed."


class TransformDoesNotFit(AdmissionError):
    """A transform cannot be applied to the samples of its array."""

    code = "dataset.transform_mismatch"
    remedy = "Change the transform or the order of the list."
