"""Create the bucket of `PARE_STORAGE_URL` if it is not there yet, with the credentials of `PARE_S3_*`."""

from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

from app.settings import Settings

ALREADY_THERE = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}

settings = Settings()
bucket = urlsplit(settings.storage).netloc
s3 = boto3.client(
    "s3",
    endpoint_url=settings.s3_endpoint,
    region_name=settings.s3_region,
    aws_access_key_id=settings.s3_access_key and settings.s3_access_key.get_secret_value(),
    aws_secret_access_key=settings.s3_secret_key and settings.s3_secret_key.get_secret_value(),
)
try:
    s3.create_bucket(Bucket=bucket)
    print(f"bucket {bucket}: created")
except ClientError as error:
    if error.response["Error"]["Code"] not in ALREADY_THERE:
        raise
    print(f"bucket {bucket}: already there")
