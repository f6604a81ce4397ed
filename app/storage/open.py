"""From a setting to a store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.settings import Settings
from app.storage.base import Store
from app.storage.errors import StorageUrlInvalid
from app.storage.local import LocalStore


def open_store(settings: Settings) -> Store:
    """Open the storage that `settings.storage` names. Raises StorageUrlInvalid; opens no connection."""
    url = urlsplit(settings.storage)
    if url.scheme == "file" and url.netloc in {"", "localhost"} and url.path.startswith("/"):
        return LocalStore(Path(unquote(url.path)))
    if url.scheme == "s3" and url.netloc and not (url.username or url.query or url.fragment):
        return _s3(settings, bucket=url.netloc, prefix=url.path.strip("/"))
    raise StorageUrlInvalid(f"a storage URL of the form {url.scheme or 'none'}:// cannot be opened")


def _s3(settings: Settings, *, bucket: str, prefix: str) -> Store:
    # boto3 takes a third of a second to import, which a laptop's command line never needs.
    from app.storage.s3 import S3Store

    try:
        return S3Store(
            bucket=bucket,
            prefix=prefix,
            endpoint=settings.s3_endpoint,
            public_endpoint=settings.s3_public_endpoint,
            region=settings.s3_region,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
        )
    except ValueError as error:
        raise StorageUrlInvalid(
            "the prefix in PARE_STORAGE_URL or one of PARE_S3_ENDPOINT and PARE_S3_PUBLIC_ENDPOINT is malformed"
        ) from error
