"""Both stores, for tests of what they have in common, and files to put in them."""

import hashlib
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.settings import Settings
from app.storage import Store, open_store
from tests.support.stack.swift import S3Server


@dataclass(frozen=True)
class Source:
    """A file with known content."""

    path: Path
    content: bytes
    sha256: str


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Source]:
    """A function that writes a file of pseudo-random bytes."""
    made = 0

    def write(size: int, *, seed: int = 0) -> Source:
        nonlocal made
        made += 1
        content = random.Random(f"{size} {seed}").randbytes(size)
        path = tmp_path / f"source-{made}"
        path.write_bytes(content)
        return Source(path, content, hashlib.sha256(content).hexdigest())

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the local store is."""
    return tmp_path / "local store"


@pytest.fixture
def local(folder: Path) -> Store:
    """A local folder."""
    return open_store(Settings(storage_url=folder.as_uri()))


@pytest.fixture(scope="session")
def bucket(s3_server: S3Server) -> str:
    """A bucket for all tests, which keep to prefixes of their own."""
    return s3_server.new_bucket()


@pytest.fixture
def prefix() -> str:
    """A prefix nobody else uses."""
    return f"some/{secrets.token_hex(8)}"


@pytest.fixture
def remote(s3: S3Server, bucket: str, prefix: str) -> Store:
    """That prefix of the bucket."""
    return open_store(Settings(**s3.settings(bucket, prefix)))


@pytest.fixture(params=["local", pytest.param("remote", marks=pytest.mark.real_stack)])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn."""
    return request.getfixturevalue(request.param)
