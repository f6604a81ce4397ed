"""Databases with today's tables: the migrations run once for each kind and process, every test gets a copy."""

import atexit
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from sqlalchemy import make_url

from migrations import upgrade
from tests.support.stack.postgres import PostgresServer


def migrate_sqlite(url: str) -> str:
    """Make the SQLite file of this URL as the migrations would; the URL."""
    path = Path(make_url(url).database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(_sqlite_template())) as template, closing(sqlite3.connect(path)) as copy:
        template.backup(copy)
    return url


def migrated_postgres(server: PostgresServer) -> str:
    """Create a database as the migrations would make it; its name."""
    return server.create(template=_postgres_template(server))


@cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pare-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    upgrade(f"sqlite:///{folder / 'pare.db'}")
    return folder / "pare.db"


@cache
def _postgres_template(server: PostgresServer) -> str:
    name = server.create()
    upgrade(server.url(name))
    return name
