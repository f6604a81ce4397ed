"""What can go wrong between the service and where it keeps bytes."""

from typing import ClassVar

from app.errors import PareError


class StorageUrlInvalid(PareError):
    """`PARE_STORAGE_URL` names no place that files can be stored in."""

    code = "storage.url_invalid"
    status = 500
    remedy = "Set PARE_STORAGE_URL to file:///an/absolute/folder or s3://bucket/prefix, or leave it unset."


class StorageUnavailable(PareError):
    """The storage does not answer, refuses the service's credentials, or has no room left."""

    code = "storage.unavailable"
    status = 503
    remedy = (
        "Try again in a few seconds. If it persists, the operator checks that the storage server runs, that the "
        "bucket and credentials are right, and that there is free space; `/readyz` shows when it is back."
    )
    retry_after_s: ClassVar[int] = 5


class ObjectMissing(PareError):
    """The database knows this file, and the storage no longer has it."""

    code = "storage.missing"
    status = 500
    remedy = "The operator restores the bucket or folder from a backup; otherwise upload the file or run the job again."


class ObjectCorrupt(PareError):
    """The bytes do not have the SHA-256 digest recorded for them, so they were changed or cut short."""

    code = "storage.corrupt"
    status = 500
    remedy = "Upload the file or run the job again. If it recurs, the operator checks disks, memory and the network."


class KeyTaken(PareError):
    """Other content is already stored under the same key; stored objects never change."""

    code = "storage.key_taken"
    status = 500
    remedy = "Repeat the request: it is given a new key. If it recurs, two installations share one storage prefix."


class PartsMismatch(PareError):
    """The parts listed to complete an upload are not the parts that were received.

    Parts are numbered 1, 2, 3 without gaps and listed in that order, each with the ETag its own upload answered;
    all but the last are at least 5 MiB.
    """

    code = "upload.parts_mismatch"
    status = 422
    remedy = "List every part once, in order, with the ETag its upload answered; send a missing or small part again."


class UploadGone(PareError):
    """The multipart upload was completed or aborted already, has expired, or never existed."""

    code = "upload.gone"
    status = 410
    remedy = "Start a new upload. If this one was completed, its model or data set is already in the list."
