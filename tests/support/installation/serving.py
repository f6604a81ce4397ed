"""An installation that serves, on embedded defaults or on real servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.installation.client import Client
from tests.support.installation.stacks import Installation, embedded, installed, server_settings
from tests.support.sizes import MIB

PACE = {
    "heartbeat_s": 2,
    "lease_s": 15,
    "dispatch_s": 0.5,
    "republish_s": 5,
    "sweep_s": 2,
    "part_bytes": 5 * MIB,
    "child_memory_bytes": 3 << 30,
}


@dataclass(frozen=True)
class Stack:
    """An installation that serves, and whether its files are in S3."""

    installation: Installation
    is_real: bool

    @property
    def client(self) -> Client:
        return self.installation.client


@contextmanager
def _embedded(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stack]:
    with embedded(folder, **PACE) as installation:
        yield Stack(installation, is_real=False)


@contextmanager
def _real(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stack]:
    postgres, redis, s3 = map(request.getfixturevalue, ("postgres_server", "redis_server", "s3_server"))
    for server in (postgres, redis, s3):
        server.start()
    settings, database = server_settings(postgres, redis, s3)
    with installed(folder, settings | PACE) as installation:
        installation.migrate()
        installation.serve("app")
        installation.start_worker()
        yield Stack(installation, is_real=True)
    postgres.drop(database)


STACKS = {"embedded": _embedded, "real": _real}
