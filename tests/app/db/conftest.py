"""Every test here runs on SQLite and on a real PostgreSQL, both as the migrations make them."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from app.db.database import Database
from app.db.tables import Job, Model
from app.ids import new_id
from tests.support.migrated import migrate_sqlite


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real_stack)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        url = migrate_sqlite(f"sqlite:///{tmp_path / 'pare.db'}")
    else:
        url = request.getfixturevalue("migrated_postgres_url")
    made = Database(url)
    yield made
    made.close()


@pytest.fixture
def job(database: Database) -> UUID:
    """A queued job with two attempts."""
    model, new = new_id(), new_id()
    with database.write() as session:
        session.add(Model(id=model, tenant="t", name="m", labels={}, sha256="0" * 64, bytes=1, key="models/x", info={}))
        session.flush()
        session.add(
            Job(
                id=new,
                tenant="t",
                name="j",
                labels={"team": "edge"},
                spec={},
                request_sha256="0" * 64,
                model_id=model,
                queue="cpu",
                max_attempts=2,
            )
        )
    return new
