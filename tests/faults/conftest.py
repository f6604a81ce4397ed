"""The tests here kill, stop and start the processes and servers of one installation."""

from collections.abc import Iterator

import pytest

from tests.support.installation.cluster import PACE, Cluster
from tests.support.installation.stacks import Installation, installed, server_settings


@pytest.fixture(scope="package")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The installation, shared by all tests here: starting it takes a while."""
    servers = list(map(request.getfixturevalue, ("postgres_server", "redis_server", "s3_server")))
    for server in servers:
        server.start()
    settings, database = server_settings(*servers)
    with installed(tmp_path_factory.mktemp("faults"), settings | PACE) as installation:
        installation.migrate()
        cluster = Cluster(installation, *servers)
        yield cluster
        cluster.database.close()
    servers[0].drop(database)


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """The same, whole again and idle after the test."""
    yield running
    running.restore()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    there = getattr(item, "funcargs", {})
    for found in (there.get("running"), there.get("installation")):
        installation = found.installation if isinstance(found, Cluster) else found
        if report.failed and isinstance(installation, Installation):
            report.sections.append(("logs of the services", installation.logs()))
    return report
