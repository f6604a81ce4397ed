"""Why the engine gave up: each class is one documented code that a failed job carries."""

from app.errors import PareError


class EngineError(PareError):
    """Anything that stops the work on a model."""


class UnreadableData(EngineError):
    """The data set passed admission, but its rows could not be read during the job."""

    code = "data.unreadable"
    remedy = "Write the file again, with as many rows in every array and samples of one size after preprocessing."


class TextUnusable(EngineError):
    """A text of the data set cannot be tokenized: there is none, it is no UTF-8, or it is too long."""

    code = "data.text_unusable"
    remedy = "Remove or mend the row named in the detail, write the Parquet file again and upload it again."


class TokenizerUnusable(EngineError):
    """The tokenizer.json has a sound outline, but no tokenizer can be made of it, or it fails on a text."""

    code = "data.tokenizer_unusable"
    remedy = "Try Tokenizer.from_file('tokenizer.json') of tokenizers on your machine, and upload what that reads."


class BrokenImage(EngineError):
    """A picture of the data set has a sound header, but its pixels are damaged or cut off."""

    code = "data.broken_image"
    remedy = "Open the picture named in the detail on your machine, replace or remove it, and upload the archive again."


class LoadFailed(EngineError):
    """The model passed admission, but the library that runs it could not load it."""

    code = "model.load_failed"
    remedy = "Load and run the file on your machine, export it again with a current exporter, and upload that."


class ExportFailed(EngineError):
    """A PyTorch program could not be expressed as ONNX, or the ONNX graph computed something else."""

    code = "model.export_failed"
    remedy = "Replace the operator named in the detail, or export the model to ONNX yourself and upload the .onnx file."


class ReexportFailed(EngineError):
    """After a step the model could no longer be exported: the step is at fault, or the graph fixes its batch."""

    code = "model.reexport_failed"
    remedy = "Export the model with a dynamic batch and an example of two rows or more; if it was, report the model."


class NoTrainableGraph(EngineError):
    """A step that changes or trains the model met an ONNX file, which holds no trainable graph."""

    code = "step.no_trainable_graph"
    remedy = "Upload the model as .pt2 (torch.export.save)."


class InconsistentModel(EngineError):
    """The loaded model's inputs or outputs are not the ones its file declared when it was admitted."""

    code = "model.inconsistent"
    remedy = "Export the model again and upload it; report the file if it comes from an unmodified exporter."


class UnknownNode(EngineError):
    """A pattern of a step's skip list matches no node or operator of the model."""

    code = "step.unknown_node"
    remedy = "Use a node name or operator type that occurs in the model; glob patterns such as '/head/*' are allowed."


class NothingToQuantize(EngineError):
    """No operator that is left after the skip list has a quantized form."""

    code = "step.nothing_to_quantize"
    remedy = "Shorten the skip list, or take a step that suits the model's operators."


class CalibrationFailed(EngineError):
    """Activation ranges could not be measured on the calibration data."""

    code = "step.calibration_failed"
    remedy = "Check the calibration data and its preprocessing: finite values, as in training, at least one row."


class BudgetTooTight(EngineError):
    """With skip 'auto' no layer could be quantized: each one alone costs more than the budget."""

    code = "step.budget_too_tight"
    remedy = "Allow more noise (a smaller sqnr_db) or more lost points, or train the model to be quantized."


class PlanNotSupported(EngineError):
    """A target cannot carry out the kind of quantization that the steps ask for."""

    code = "target.plan_not_supported"
    remedy = "Use quantize.static for this target, or deliver for another one."


class RuleViolated(EngineError):
    """The lowered model breaks a rule of the target's runtime."""

    code = "target.rule_violated"
    remedy = "Put the node named in the detail on the step's skip list."


class BuildFailed(EngineError):
    """TensorRT is installed on the worker, and builds no engine of the file that passed the rules."""

    code = "target.build_failed"
    remedy = "Build the delivered kind of file with trtexec --verbose to see why, and put the node it names on `skip`."


class NanLoss(EngineError):
    """While training, the loss became infinite or not a number."""

    code = "train.nan_loss"
    remedy = "Lower the learning rate, set clip_norm (1.0), warm up, and check the data for values that are not finite."


class LabelsMismatch(EngineError):
    """The labels to learn from do not have the shape of the output that is trained."""

    code = "train.labels_mismatch"
    remedy = "Send one class number per row for scores [rows, classes], or values shaped like the output."


class TrainingLabelsOutOfRange(EngineError):
    """The labels to learn from name classes that the output that is trained does not have."""

    code = "train.labels_out_of_range"
    remedy = "Number the classes 0 to n-1, in the order of the model's output; name another one in `output`."


class UnknownOutput(EngineError):
    """A step that trains names an output that the model does not have."""

    code = "train.unknown_output"
    remedy = "Name one of the model's outputs in `output`, or leave it out: the first that the labels fit is trained."


class ClassWeightsMismatch(EngineError):
    """The list of class weights is not as long as the model has classes."""

    code = "train.class_weights"
    remedy = "Give one weight for each class, in the order of the model's output, or 'balanced'."


class NothingToAugment(EngineError):
    """Augmentations were asked for, but no input of the model is a batch of images."""

    code = "train.nothing_to_augment"
    remedy = "Leave `augment` out: it changes float inputs of shape [rows, channels, height, width]."


class NoWeightsToPrune(EngineError):
    """No layer is left whose single weights could be set to zero."""

    code = "prune.no_weights"
    remedy = "Widen `include`, shorten `exclude`, use a pattern whose blocks divide the inputs, or drop the step."


class TeacherMismatch(EngineError):
    """The teacher does not take what the student takes, or does not return what the student returns."""

    code = "distill.teacher_mismatch"
    remedy = "Give a teacher for the same inputs and classes, or match features with loss 'features'."


class StudentMismatch(EngineError):
    """The network that is to be the student does not take and return what the model does."""

    code = "distill.student_mismatch"
    remedy = "Set the architecture's `input` and num_classes to those of the model."


class UnknownFeature(EngineError):
    """A feature to be matched names no node of the graph."""

    code = "distill.unknown_feature"
    remedy = "Use the name of a node of the exported graph (print(exported.graph)), or of a node or value of the ONNX."


class FeatureMismatch(EngineError):
    """Two features to be matched have shapes that no projection of channels brings together."""

    code = "distill.feature_mismatch"
    remedy = "Match values with as many axes: [rows, channels], [rows, tokens, channels], or images."


class AgentsMissing(EngineError):
    """A device agent is to measure for something that runs without a service, which they belong to."""

    code = "agent.none"
    remedy = "Submit the job to a service that has the device among its agents."


class ToolchainMissing(EngineError):
    """A target is converted or run by a toolchain that is not installed on the worker."""

    code = "toolchain.missing"
    remedy = "Install it on the worker: `python -m worker toolchains install NAME`; GET /targets lists what is missing."


class ToolchainFailed(EngineError):
    """A converter or runtime gave up with an error of its own, crashed, or took too long."""

    code = "toolchain.failed"
    remedy = "Read the detail and the job's log; try a simpler recipe or another target for this model."


class Unconvertible(EngineError):
    """A target's converter or runtime has no form for something in this model."""

    code = "toolchain.unsupported"
    remedy = "Deliver for another target, or replace the operator named in the detail and export the model again."


class DeliveryFailed(EngineError):
    """A library gave up while a target was written or run, for a reason without a code of its own."""

    code = "target.failed"
    remedy = "Read the job's log for the place; deliver for another target, and report it as a bug."


class NotReopened(EngineError):
    """A job is to evaluate an artifact of a kind that is only measured by the job that delivers it."""

    code = "target.not_reopened"
    remedy = "Deliver the model for this target again, in a job with the steps that made the artifact."
