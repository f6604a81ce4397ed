"""One sandbox for all tests of the runtime: starting one imports torch, which takes seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.api.components import Components
from app.settings import Settings
from tests.support.migrated import migrate_sqlite
from tests.support.runtime.bench import JOBS, Bench
from worker.runtime.job_sandbox import JobSandbox


@pytest.fixture(scope="session")
def job_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobSandbox]:
    scratch = tmp_path_factory.mktemp("scratch")
    with JobSandbox(scratch, sandbox="best-effort", threads=2, entry=f"{JOBS}:succeeds") as opened:
        yield opened


@pytest.fixture
def bench(job_sandbox: JobSandbox, tmp_path: Path) -> Bench:
    return Bench(job_sandbox, tmp_path)


@pytest.fixture
def parts(tmp_path: Path) -> Components:
    settings = Settings(data_dir=tmp_path)
    migrate_sqlite(settings.database)
    return Components.build(settings)
