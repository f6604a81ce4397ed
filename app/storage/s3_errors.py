"""What an S3 server or the network says, as what the service says."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from app.errors import PareError
from app.storage.errors import ObjectMissing, PartsMismatch, StorageUnavailable, UploadGone

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_BAD_PARTS = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML", "InvalidArgument"})


@contextmanager
def s3_failures(key: str = "") -> Iterator[None]:
    """Let no exception of boto3, botocore or urllib3 out; say nothing of endpoints, buckets or credentials."""
    try:
        yield
    except ClientError as error:
        raise _translated(error, key) from error
    except (BotoCoreError, HTTPError) as error:
        raise StorageUnavailable(f"the storage server cannot be used: {type(error).__name__}") from error


def _translated(error: ClientError, key: str) -> PareError:
    code = error.response.get("Error", {}).get("Code", "")
    operation = error.operation_name
    if code == "NoSuchUpload":
        return UploadGone("there is no such upload in progress")
    if code in _MISSING and operation in {"HeadObject", "GetObject"}:
        return ObjectMissing(f"there is no object {key}")
    if code in _BAD_PARTS and operation == "CompleteMultipartUpload":
        return PartsMismatch(f"the storage refused the list of parts: {code}")
    return StorageUnavailable(f"the storage server refused {operation}: {code or 'no reason given'}")
