"""The migrations and the tables say the same, on both databases."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from app.db.database import Database, DatabaseUnavailable
from app.db.tables import Base
from migrations import upgrade


def test_tables_and_migrations_agree(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert compare_metadata(context, Base.metadata) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    upgrade(database.engine.url.render_as_string(hide_password=False))

    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1


def test_a_database_that_is_away_is_a_typed_error(tmp_path: Path) -> None:
    gone = Database("postgresql://nobody@127.0.0.1:1/none")

    with pytest.raises(DatabaseUnavailable):
        gone.check()
