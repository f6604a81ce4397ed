"""How to talk to an S3 server: patience, addressing and signatures."""

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from pydantic import SecretStr

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 5
READ_SECONDS = 60
ATTEMPTS = 3
CONNECTIONS = 32


def s3_client(
    *, endpoint: str | None, region: str, access_key: SecretStr | None, secret_key: SecretStr | None
) -> "S3Client":
    """Make a thread-safe client; it connects when first used.

    Checksums are ours to send (SHA-256), not boto3's CRC32, which a presigned link would force upon every client.
    Servers other than AWS seldom have a DNS name per bucket, so they are addressed by path.
    """
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint else "virtual"},
    )
    # A session of its own: boto3's default session is shared and not safe to create from two threads.
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=access_key.get_secret_value() if access_key else None,
        aws_secret_access_key=secret_key.get_secret_value() if secret_key else None,
        config=config,
    )
