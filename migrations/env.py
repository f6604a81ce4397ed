"""Runs migrations on one connection; imported by Alembic, not by us."""

from alembic import context

from app.db.database import Database
from app.db.tables import Base

LOCK_TIMEOUT = "5s"
"""A migration that cannot get its lock fails instead of queueing every request behind it."""


def run() -> None:
    database = Database(context.config.attributes["url"])
    with database.engine.execution_options(pare_writes=True).connect() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=database.is_sqlite,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    database.close()


run()
