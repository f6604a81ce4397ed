"""One file to S3 in constant memory, verified before it becomes visible."""

import hashlib
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from app.storage.base import MAX_PARTS, MIB
from app.storage.digest import require_same

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 8 * MIB
IN_FLIGHT = 2
"""Parts sent at once while the next one is read and hashed: three are in memory."""


def upload(s3: "S3Client", bucket: str, name: str, data: BinaryIO, *, sha256: str, media_type: str) -> None:
    """Send the file from its position. Raises ObjectCorrupt if its digest is another, and botocore's own errors.

    The digest is taken of the very bytes that are sent, so a file that changes meanwhile is noticed; a multipart
    upload is completed only after that.
    """
    size = data.seek(0, 2)
    data.seek(0)
    if size <= PART_BYTES:
        _put_whole(s3, bucket, name, data.read(PART_BYTES + 1), sha256=sha256, media_type=media_type)
        return
    opened = s3.create_multipart_upload(
        Bucket=bucket, Key=name, ContentType=media_type, Metadata={"sha256": sha256}, ChecksumAlgorithm="SHA256"
    )
    token = opened["UploadId"]
    try:
        sending = _Sending(s3, bucket, name, token)
        parts = sending.all_of(data, part_bytes=max(PART_BYTES, -(-size // MAX_PARTS)))
        require_same(sending.sha256, sha256, key=name)
        s3.complete_multipart_upload(Bucket=bucket, Key=name, UploadId=token, MultipartUpload={"Parts": parts})
    except BaseException:
        # Best effort: what stays behind is swept as a stale upload.
        with suppress(BotoCoreError, ClientError):
            s3.abort_multipart_upload(Bucket=bucket, Key=name, UploadId=token)
        raise


def _put_whole(s3: "S3Client", bucket: str, name: str, body: bytes, *, sha256: str, media_type: str) -> None:
    digest = hashlib.sha256(body)
    require_same(digest.hexdigest(), sha256, key=name)
    s3.put_object(
        Bucket=bucket,
        Key=name,
        Body=body,
        ContentType=media_type,
        Metadata={"sha256": sha256},
        ChecksumSHA256=b64encode(digest.digest()).decode(),
    )


class _Sending:
    def __init__(self, s3: "S3Client", bucket: str, name: str, token: str) -> None:
        self._s3, self._bucket, self._name, self._token = s3, bucket, name, token
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def all_of(self, data: BinaryIO, *, part_bytes: int) -> list["CompletedPartTypeDef"]:
        sent: list[CompletedPartTypeDef] = []
        waiting: deque[Future[CompletedPartTypeDef]] = deque()
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="s3-part") as pool:
            try:
                for number, body in enumerate(self._read(data, part_bytes), start=1):
                    waiting.append(pool.submit(self._send, number, body))
                    if len(waiting) >= IN_FLIGHT:
                        sent.append(waiting.popleft().result())
                sent.extend(future.result() for future in waiting)
            finally:
                for future in waiting:
                    future.cancel()
        return sent

    def _read(self, data: BinaryIO, part_bytes: int) -> Iterator[bytes]:
        while body := data.read(part_bytes):
            self._digest.update(body)
            yield body

    def _send(self, number: int, body: bytes) -> "CompletedPartTypeDef":
        checksum = b64encode(hashlib.sha256(body).digest()).decode()
        answer = self._s3.upload_part(
            Bucket=self._bucket,
            Key=self._name,
            UploadId=self._token,
            PartNumber=number,
            Body=body,
            ChecksumSHA256=checksum,
        )
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}
