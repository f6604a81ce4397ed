"""What a use case can refuse."""

from app.errors import PareError
from app.ids import NotFound

__all__ = [
    "ArtifactUnfit",
    "DataMismatch",
    "DigestMismatch",
    "HubMismatch",
    "HubUnreachable",
    "IdempotencyMismatch",
    "InUse",
    "JobEnded",
    "JobNotEnded",
    "LabelsOutOfRange",
    "MetricNotMeasurable",
    "NeedsData",
    "NoBatchAxis",
    "NotFound",
    "PartsMissing",
    "SplitUnknown",
    "StepNotApplicable",
    "TargetUnknown",
    "TeacherUnfit",
    "UnknownWeights",
    "UploadNotOpen",
    "UploadTooLarge",
    "WorkerLost",
]


class ArtifactUnfit(PareError):
    """An artifact that a job is to evaluate is no delivered model, or was not made from the job's model."""

    code, status = "artifact.unfit", 422
    remedy = "Name artifacts of kind `model` that jobs have delivered for this model: GET /jobs/{id}/artifacts."


class InUse(PareError):
    """A job that is not finished yet reads this model or data set."""

    code, status = "resource.in_use", 409
    remedy = "Wait for the job or cancel it, then delete again."


class IdempotencyMismatch(PareError):
    """The Idempotency-Key was used before with a different body."""

    code, status = "idempotency.mismatch", 422
    remedy = "Use a new key for a new job; send the same body to get the same job."


class NeedsData(PareError):
    """A step or a metric needs data for a role that the job does not name."""

    code, status = "step.needs_data", 422
    remedy = "Upload a data set and name it in `data` for that role."


class SplitUnknown(PareError):
    """The job names a split that the data set does not declare."""

    code, status = "data.split_unknown", 422
    remedy = "Name one of the declared splits, or leave the split out."


class TargetUnknown(PareError):
    """A query names a target that there is not."""

    code, status = "target.unknown", 422
    remedy = "Name a format (`onnx`) or a label (`onnx/x86`); `GET /targets` lists the formats."


class DataMismatch(PareError):
    """The data, after its preprocessing, does not fit the model's inputs."""

    code, status = "data.mismatch", 422
    remedy = "Name the arrays like the model's inputs and declare preprocessing that yields their shape and dtype."


class LabelsOutOfRange(PareError):
    """The labels `y` name classes that the model's output does not have."""

    code, status = "data.labels_out_of_range", 422
    remedy = "Number the classes 0 to n-1, in the order of the model's output."


class StepNotApplicable(PareError):
    """This step cannot be applied to this kind of model, or not for this target."""

    code, status = "step.not_applicable", 422
    remedy = "Choose another step or target; `GET /techniques` says what each one needs."


class TeacherUnfit(PareError):
    """A student and its teacher, or the model it takes the place of, do not take and return the same."""

    code, status = "distill.unfit", 422
    remedy = "Give a teacher for the same inputs and classes, or match features with loss 'features'."


class NoBatchAxis(PareError):
    """The job has data, and the model's inputs do not share a first axis that counts its rows."""

    code, status = "model.no_batch_axis", 422
    remedy = (
        "Make the batch the first axis of every input, of one size or dynamic, and the other inputs constants; or "
        "leave the data out: steps on weights alone need none."
    )


class MetricNotMeasurable(PareError):
    """A metric was asked for that these labels and the model's first output do not allow."""

    code, status = "evaluate.not_measurable", 422
    remedy = "Ask for a metric that the labels fit, or send the labels that it needs."


class JobEnded(PareError):
    """The job has ended, so it cannot be canceled."""

    code, status = "job.ended", 409
    remedy = "Nothing is left to cancel; `POST /jobs/{id}/retry` starts a failed or canceled job again."


class JobNotEnded(PareError):
    """The job has not come to an end that allows this: it is still at work, or it succeeded."""

    code, status = "job.not_ended", 409
    remedy = "Wait until the job has ended; `GET /jobs/{id}/events` tells when."


class UploadNotOpen(PareError):
    """The upload was completed or aborted, or is being completed by another request."""

    code, status = "upload.not_open", 409
    remedy = "Ask for the upload's state; start a new one if it was aborted."


class UploadTooLarge(PareError):
    """The upload is larger than this service accepts."""

    code, status = "upload.too_large", 413
    remedy = "Upload a smaller file, or have the operator raise PARE_MAX_UPLOAD_BYTES."


class DigestMismatch(PareError):
    """What arrived is not what was announced: its size or its SHA-256 differs."""

    code, status = "upload.digest_mismatch", 422
    remedy = "Upload the file again; if it recurs, compute the announced values again."


class PartsMissing(PareError):
    """The request asks for a part that the upload does not have."""

    code, status = "upload.no_such_part", 422
    remedy = "Send parts 1 to n, as many as the upload's answer listed."


class UnknownWeights(PareError):
    """The architecture has no published weights of this name."""

    code, status = "architecture.unknown_weights", 422
    remedy = "Name weights that torchvision publishes for the architecture, such as IMAGENET1K_V1."


class HubUnreachable(PareError):
    """The server that publishes the weights cannot be reached from here, or does not have the file."""

    code, status = "model.hub_unreachable", 502
    remedy = "Download the .pth yourself and upload it with `architecture`; a mirror is set with PARE_WEIGHTS_URL."


class HubMismatch(PareError):
    """What the server of the weights sent is not the file that was asked for."""

    code, status = "model.hub_mismatch", 502
    remedy = "Ask again; if it recurs, have the operator check PARE_WEIGHTS_URL and any proxy on the way."


class WorkerLost(PareError):
    """The worker stopped answering in the middle of the job, as often as `max_attempts` allows."""

    code, status = "worker.lost", 500
    remedy = "Look at the worker's log for the cause (often memory), then retry the job."
