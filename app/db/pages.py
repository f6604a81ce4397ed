"""Newest first, a page at a time: `after` names the last row of the page before."""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select
from sqlalchemy.orm import Session

from app.db.tables import Agent, Dataset, Job, Model

Row = TypeVar("Row", Model, Dataset, Job, Agent)


def cut(
    session: Session,
    statement: Select[Row],
    table: type[Row],
    *,
    limit: int,
    after: UUID | None,
    labels: Mapping[str, str],
) -> tuple[Sequence[Row], bool]:
    """Fetch at most `limit` rows that carry all labels, and whether there are more."""
    for name, value in labels.items():
        statement = statement.where(table.labels[name].as_string() == value)
    if after is not None:
        statement = statement.where(table.id < after)
    rows = session.scalars(statement.order_by(table.id.desc()).limit(limit + 1)).all()
    return rows[:limit], len(rows) > limit
