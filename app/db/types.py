"""Column types and time, the same on PostgreSQL and SQLite. All time is the database's: clocks of workers differ."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, TypeDecorator
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

Json = JSON(none_as_null=True)
"""JSON and not JSONB: the order of keys matters (splits are cut in the order declared), and names in hostile
models may hold characters that JSONB refuses."""


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite, which knows no zones, stores it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class from_now(FunctionElement[datetime]):  # noqa: N801  # reads as the SQL function it is
    """The database's clock, plus a number of seconds that may be negative."""

    type = UtcTime()
    inherit_cache = True

    def __init__(self, seconds: float | ColumnElement[Any] = 0.0) -> None:
        super().__init__(seconds)


@compiles(from_now, "postgresql")
def _postgresql(element: from_now, compiler: SQLCompiler, **kw: Any) -> str:
    # clock_timestamp(), not now(): a lease must not be counted from the start of the transaction.
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(from_now, "sqlite")
def _sqlite(element: from_now, compiler: SQLCompiler, **kw: Any) -> str:
    # The text format SQLAlchemy stores (microseconds), so that comparing texts compares times.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({compiler.process(element.clauses, **kw)}) || ' seconds')"
