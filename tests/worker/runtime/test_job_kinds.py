"""Every kind of work has one row, and what the row names is there."""

from typing import get_args, get_type_hints

import pytest

from app.spec.work import WorkKind
from worker.runtime.child import entry_point
from worker.runtime.job_kinds import JOB_KINDS


@pytest.mark.parametrize("kind", get_args(WorkKind))
def test_a_row_names_what_exists_and_fits(kind: WorkKind) -> None:
    row = JOB_KINDS[kind]

    assert get_type_hints(row.prepare)["return"] is row.order
    parts = get_type_hints(entry_point(row.entry))
    assert next(iter(parts.values())) is row.order
    assert parts["return"] is row.result


def test_there_is_no_row_without_a_kind() -> None:
    assert set(JOB_KINDS) == set(get_args(WorkKind))
