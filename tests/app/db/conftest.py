"""Every test here runs on SQLite and on a real PostgreSQL, both made by the migrations."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db.database import Database
from migrations import upgrade


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real_stack)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    sqlite = f"sqlite:///{tmp_path / 'pare.db'}"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    upgrade(url)
    made = Database(url)
    yield made
    made.close()
