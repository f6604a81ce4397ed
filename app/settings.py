"""All configuration: environment variables that start with `PARE_`, or the defaults a laptop needs."""

from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import PareError

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
SPOOL_PREFIX = "upload-"
"""Begins the names of scratch folders that hold a file on its way in."""
GIB = 1 << 30
MIB = 1 << 20


class SettingsInvalid(PareError):
    """An environment variable holds a value that cannot be used."""

    code, status = "settings.invalid", 500
    remedy = "Correct the variable; docs/configuration.md lists them all."


class Settings(BaseSettings):
    """Read once at start and passed to whatever needs it. Durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(env_prefix="PARE_", frozen=True)

    data_dir: Path = Field(Path("pare-data"), description="Everything the embedded defaults write lives below here.")
    database_url: SecretStr | None = Field(None, description="SQLAlchemy URL; default: SQLite in the data directory.")
    broker_url: SecretStr = Field(SecretStr("memory://"), description="`memory://` (one process) or `redis://…`.")
    storage_url: str | None = Field(None, description="`file:///path` or `s3://bucket/prefix`; default: a folder.")
    s3_endpoint: str | None = Field(None, description="URL of the S3 server; default: AWS.")
    s3_public_endpoint: str | None = Field(None, description="The same server as clients reach it, for their links.")
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_access_key: SecretStr | None = Field(None, description="Default: boto3's own search (environment, role).")
    s3_secret_key: SecretStr | None = Field(None, description="Belongs to the access key.")

    host: str = Field("127.0.0.1", description="Only loopback: there are no API keys yet.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the service.")
    allowed_hosts: frozenset[str] = Field(
        frozenset(), description="Host names besides loopback that requests may name, as a JSON list (behind a proxy)."
    )
    public_url: str | None = Field(None, description="Base of links in answers; default: the request's own.")
    log_format: Literal["text", "json"] = Field("text", description="`text` for people, `json` for machines.")

    max_upload_bytes: int = Field(20 * GIB, gt=0, description="Largest model or data set.")
    max_body_bytes: int = Field(1 * MIB, gt=0, description="Of a JSON request.")
    weights_url: str = Field(
        "https://download.pytorch.org/models",
        description="Where torchvision's weights are fetched by name: theirs, or a mirror; empty: nowhere.",
        pattern=r"^(https?://.*)?$",
    )
    upload_idle_s: float = Field(30, gt=0, description="A body that stalls this long is given up (408).")
    upload_ttl_s: int = Field(24 * 3600, gt=0, description="Unfinished multipart uploads are deleted after this.")
    part_bytes: int = Field(64 * MIB, ge=5 * MIB, description="Size of a multipart upload's parts.")
    link_ttl_s: int = Field(300, gt=0, description="Life of presigned links.")

    queue: Literal["cpu", "cuda"] = Field("cpu", description="The queue a worker serves.")
    threads: int = Field(1, ge=1, description="Size of every thread pool in a job's process.")
    sandbox: Literal["require", "best-effort"] = Field(
        "best-effort", description="`require` refuses to start without every layer; `best-effort` warns once."
    )
    work_dir: Path | None = Field(None, description="Scratch space of jobs; default: below the data directory.")
    toolchains_dir: Path = Field(
        Path(".toolchains"), description="Environments of the toolchains (`python -m worker toolchains install`)."
    )
    debian_mirror: str = Field(
        "http://deb.debian.org/debian", pattern=r"^https?://", description="Where the emulators' packages come from."
    )
    child_memory_bytes: int = Field(8 * GIB, gt=0, description="Resident memory a job may use.")
    child_disk_bytes: int = Field(20 * GIB, gt=0, description="Largest file a job may write.")

    inspect_uploads: bool = Field(True, description="Have a worker look at each uploaded model.")

    lease_s: float = Field(60, gt=0, description="A claim is void this long after its last heartbeat.")
    heartbeat_s: float = Field(15, gt=0, description="How often a worker renews its claim.")
    agent_wait_s: float = Field(600, gt=0, description="How long a job waits for a device agent to take its task.")
    dispatch_s: float = Field(1, gt=0, description="How often queued jobs are looked for.")
    republish_s: float = Field(60, gt=0, description="A published job nobody claimed is published again after this.")
    sweep_s: float = Field(15, gt=0, description="How often lost work is looked for.")
    retry_backoff_s: float = Field(10, ge=0, description="First wait after a lost worker; doubles each attempt.")

    @model_validator(mode="after")
    def _heartbeat_fits_lease(self) -> "Settings":
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError("PARE_HEARTBEAT_S must be at most half of PARE_LEASE_S")
        return self

    @cached_property
    def database(self) -> str:
        """The SQLAlchemy URL, password included: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.data_dir / 'pare.db').absolute()}"

    @cached_property
    def storage(self) -> str:
        """The storage URL."""
        return self.storage_url or (self.data_dir / "store").absolute().as_uri()

    @cached_property
    def broker(self) -> str:
        """The broker URL, password included: never log it."""
        return self.broker_url.get_secret_value()

    @cached_property
    def embedded(self) -> bool:
        """Whether broker and worker live in the API's process."""
        return urlsplit(self.broker).scheme == "memory"

    @cached_property
    def scratch(self) -> Path:
        """Where a job's directory and spooled uploads are made."""
        return (self.work_dir or self.data_dir / "work").absolute()


def load() -> Settings:
    """Read the environment; raises `SettingsInvalid`, which names the variable and not its value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"PARE_{str(first['loc'][0]).upper()}: " if first["loc"] else ""
        raise SettingsInvalid(f"{name}{first['msg']}.") from None
