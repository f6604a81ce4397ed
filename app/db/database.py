"""Connections and transactions. A transaction is short: none is open while a tensor moves or a socket waits."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.errors import PareError

BUSY_SECONDS = 30
"""How long SQLite waits for another writer."""
LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 30_000
SILENCE_MS = 20_000
"""A server whose machine vanished acknowledges nothing: the connection ends instead of hanging (Linux)."""


class DatabaseUnavailable(PareError):
    """The database cannot be reached."""

    code, status = "database.unavailable", 503
    remedy = "Try again; if it lasts, check PARE_DATABASE_URL and the database server."


class Database:
    """PostgreSQL or SQLite, chosen by the URL."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            options = f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={STATEMENT_TIMEOUT_MS}"
            self.engine = create_engine(
                parsed,
                pool_pre_ping=True,
                connect_args={"options": options, "connect_timeout": 10, "tcp_user_timeout": SILENCE_MS},
            )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session for queries; nothing is committed."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session that commits when the block ends and rolls back when it raises."""
        # SQLite: take the write lock at the start, or two readers that both want to write deadlock.
        bind = self.engine.execution_options(pare_writes=True)
        with Session(bind, expire_on_commit=False) as session, session.begin():
            yield session

    def check(self) -> None:
        """Raise `DatabaseUnavailable` unless a query is answered."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            raise DatabaseUnavailable("The database does not answer.") from error

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours to begin, see below
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("pare_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
