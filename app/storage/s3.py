"""An S3 bucket as a store.

Objects put here carry their SHA-256 as metadata, and every request that sends content sends a checksum that the
server verifies. An ETag is not a checksum and is never taken for one. Presigned parts carry none: whoever completes
an upload reads the object once to learn its digest.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from pydantic import SecretStr

from app.storage.base import CHUNK_BYTES, Part, StoredObject
from app.storage.digest import chunks, require_same, sha256_of
from app.storage.disposition import attachment
from app.storage.errors import KeyTaken, ObjectMissing, StorageUnavailable, UploadGone
from app.storage.files import write_verified
from app.storage.keys import (
    require_digest,
    require_key,
    require_number,
    require_prefix,
    require_range,
    require_sequence,
)
from app.storage.s3_client import s3_client
from app.storage.s3_errors import s3_failures
from app.storage.s3_upload import upload

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

RESUMPTIONS = 3
"""A download that breaks off goes on where it stopped, this many times; objects never change in between."""


class S3Store:
    """Keeps objects in `bucket` below `prefix`; links point to `public_endpoint` where clients see another address."""

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str = "",
        endpoint: str | None = None,
        public_endpoint: str | None = None,
        region: str = "us-east-1",
        access_key: SecretStr | None = None,
        secret_key: SecretStr | None = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{require_key(prefix)}/" if prefix else ""
        account = {"access_key": access_key, "secret_key": secret_key}
        self._s3 = s3_client(endpoint=endpoint, region=region, **account)
        public = public_endpoint or endpoint
        self._links = s3_client(endpoint=public, region=region, **account) if public != endpoint else self._s3

    def put(self, key: str, source: Path, *, sha256: str, media_type: str) -> None:
        """Memory is constant: a large file goes in parts of 8 MiB.

        Two writers of different content under one new key may both be told it is theirs, since few servers offer a
        conditional write that holds; exactly-once belongs to the database.
        """
        require_key(key)
        require_digest(sha256)
        with source.open("rb") as data:
            if self._holds(key, sha256):
                require_same(sha256_of(chunks(data)), sha256, key=key)
                return
            self._upload(key, data, sha256=sha256, media_type=media_type)

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Ask for the range now; a stream that breaks off is resumed where it stopped."""
        require_range(start, end)
        if end is not None and end <= start:
            self.size(key)
            return iter(())
        body = self._open(key, start, end)
        return iter(()) if body is None else self._stream(key, body, start, end)

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        """Download to a temporary file, which a rename publishes once its digest is right."""
        require_digest(sha256)
        write_verified(self.read(key), target, key=key, sha256=sha256)

    def size(self, key: str) -> int:
        """Ask the server, with a HEAD."""
        with s3_failures(key):
            return self._s3.head_object(Bucket=self._bucket, Key=self._name(key))["ContentLength"]

    def delete(self, key: str) -> None:
        """Ask the server, which answers the same when nothing is there."""
        with s3_failures(key):
            self._s3.delete_object(Bucket=self._bucket, Key=self._name(key))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Page by page, as the server lists them."""
        pages = self._s3.get_paginator("list_objects_v2")
        with s3_failures():
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + require_prefix(prefix)):
                for item in page.get("Contents", []):
                    yield StoredObject(item["Key"].removeprefix(self._prefix), item["Size"], item["LastModified"])

    def link(self, key: str, *, file_name: str, media_type: str, expires_s: int) -> str | None:
        """Signed with this process's credentials; the server refuses it after `expires_s` seconds."""
        wanted = {
            "Bucket": self._bucket,
            "Key": self._name(key),
            "ResponseContentDisposition": attachment(file_name),
            "ResponseContentType": media_type,
        }
        with s3_failures(key):
            return self._links.generate_presigned_url("get_object", Params=wanted, ExpiresIn=expires_s)

    def begin(self, key: str) -> str:
        """Open a multipart upload of the bucket; the token is its UploadId."""
        with s3_failures(key):
            return self._s3.create_multipart_upload(Bucket=self._bucket, Key=self._name(key))["UploadId"]

    def part_link(self, key: str, token: str, number: int, *, expires_s: int) -> str | None:
        """Signed with this process's credentials; it carries no checksum, as the part is not known yet."""
        part = {
            "Bucket": self._bucket,
            "Key": self._name(key),
            "UploadId": token,
            "PartNumber": require_number(number),
        }
        with s3_failures(key):
            return self._links.generate_presigned_url("upload_part", Params=part, ExpiresIn=expires_s)

    def write_part(self, key: str, token: str, number: int, source: Path) -> str:
        """The upload promised no SHA-256 (its presigned parts have none), so the server verifies an MD5."""
        digest = hashlib.md5(usedforsecurity=False)
        with source.open("rb") as data, s3_failures(key):
            for chunk in chunks(data):
                digest.update(chunk)
            data.seek(0)
            return self._s3.upload_part(
                Bucket=self._bucket,
                Key=self._name(key),
                UploadId=token,
                PartNumber=require_number(number),
                Body=data,
                ContentMD5=b64encode(digest.digest()).decode(),
            )["ETag"]

    def complete(self, key: str, token: str, parts: Sequence[Part]) -> int:
        """Let the server join the parts. A repeated request finds what the first one made."""
        require_sequence(parts)
        listed: list[CompletedPartTypeDef] = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        try:
            with s3_failures(key):
                self._s3.complete_multipart_upload(
                    Bucket=self._bucket, Key=self._name(key), UploadId=token, MultipartUpload={"Parts": listed}
                )
        except UploadGone as gone:
            try:
                return self.size(key)
            except ObjectMissing:
                raise gone from None
        return self.size(key)

    def abort(self, key: str, token: str) -> None:
        """Let the server drop the parts."""
        with suppress(UploadGone), s3_failures(key):
            try:
                self._s3.abort_multipart_upload(Bucket=self._bucket, Key=self._name(key), UploadId=token)
            except ClientError as error:
                # Swift's answer once the upload was completed.
                if error.response.get("Error", {}).get("Code") != "NoSuchKey":
                    raise

    def stale_uploads(self, older_than: datetime) -> Iterator[tuple[str, str]]:
        """Includes what a crashed `put` left behind."""
        pages = self._s3.get_paginator("list_multipart_uploads")
        with s3_failures():
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for item in page.get("Uploads", []):
                    if item["Initiated"] < older_than:
                        yield item["Key"].removeprefix(self._prefix), item["UploadId"]

    def check(self) -> None:
        """Asks for the bucket with this process's credentials."""
        with s3_failures():
            self._s3.head_bucket(Bucket=self._bucket)

    def _name(self, key: str) -> str:
        return self._prefix + require_key(key)

    def _upload(self, key: str, data: BinaryIO, *, sha256: str, media_type: str) -> None:
        try:
            with s3_failures(key):
                upload(self._s3, self._bucket, self._name(key), data, sha256=sha256, media_type=media_type)
        except UploadGone as gone:
            raise StorageUnavailable(f"the upload of {key} was aborted by the storage or a sweep") from gone

    def _holds(self, key: str, sha256: str) -> bool:
        """Return whether the key has this content, False if it is free. Raises KeyTaken."""
        try:
            with s3_failures(key):
                digest = self._s3.head_object(Bucket=self._bucket, Key=self._name(key))["Metadata"].get("sha256")
        except ObjectMissing:
            return False
        if (digest or sha256_of(self.read(key))) != sha256:
            raise KeyTaken(f"other content is stored as {key}")
        return True

    def _open(self, key: str, start: int, end: int | None) -> StreamingBody | None:
        """Ask for the range; None if it begins at or after the object's end."""
        wanted = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
        with s3_failures(key):
            try:
                return self._s3.get_object(Bucket=self._bucket, Key=self._name(key), Range=wanted)["Body"]
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in {"InvalidRange", "416"}:
                    return None
                raise

    def _stream(self, key: str, body: StreamingBody, start: int, end: int | None) -> Iterator[bytes]:
        resumptions = 0
        while True:
            try:
                with closing(body), s3_failures(key):
                    for chunk in body.iter_chunks(CHUNK_BYTES):
                        start += len(chunk)
                        yield chunk
                return
            except StorageUnavailable:
                resumptions += 1
                if resumptions > RESUMPTIONS:
                    raise
            again = self._open(key, start, end)
            if again is None:
                return
            body = again
