"""The fixtures: the servers live as long as the test run, what a test keeps in them as long as the test."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.migrated import migrated_postgres
from tests.support.stack.missing import ServerMissing, skip_or_fail
from tests.support.stack.postgres import PostgresServer, reachable_folder
from tests.support.stack.redis import RedisServer
from tests.support.stack.swift import S3Server

Server = TypeVar("Server", PostgresServer, RedisServer, S3Server)
REAL_SERVERS = frozenset({"postgres_server", "redis_server", "s3_server"})


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The cluster, for tests that stop and start it."""
    with _running(PostgresServer, reachable_folder()) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The server behind `redis`."""
    with _running(RedisServer, Path(tempfile.mkdtemp(prefix="pare-redis-"))) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The server behind `s3`."""
    with _running(S3Server, Path(tempfile.mkdtemp(prefix="pare-swift-"))) as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[Callable[[], str]]:
    """A function that creates an empty database and returns its URL; they are dropped after the test."""
    names: list[str] = []

    def create() -> str:
        names.append(postgres_server.create())
        return postgres_server.url(names[-1])

    postgres_server.start()
    yield create
    postgres_server.start()
    for name in names:
        postgres_server.drop(name)


@pytest.fixture
def migrated_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database as the migrations make it."""
    postgres_server.start()
    name = migrated_postgres(postgres_server)
    yield postgres_server.url(name)
    postgres_server.start()
    postgres_server.drop(name)


@pytest.fixture
def postgres_url(postgres_database: Callable[[], str]) -> str:
    """The URL of an empty database."""
    return postgres_database()


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    """A running, empty Redis that the test may stop and start."""
    redis_server.start()
    redis_server.flush()
    return redis_server


@pytest.fixture
def redis_url(redis: RedisServer) -> str:
    """The URL of a running, empty Redis."""
    return redis.url


@pytest.fixture
def s3(s3_server: S3Server) -> S3Server:
    """A running S3 server that the test may stop and start; make a bucket with `new_bucket()`."""
    s3_server.start()
    return s3_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real server, so that `-m "not real_stack"` leaves it out."""
    for item in items:
        if REAL_SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("real_stack")


@contextmanager
def _running(kind: Callable[[Path], Server], folder: Path) -> Iterator[Server]:
    try:
        server = kind(folder)
    except ServerMissing as missing:
        shutil.rmtree(folder, ignore_errors=True)
        skip_or_fail(missing)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
