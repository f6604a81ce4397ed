"""Generated requests for every operation of the OpenAPI document: never a 5xx, always an answer it describes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.api.app import create_app
from app.api.components import Components
from app.settings import Settings
from tests.support.api import serve
from tests.support.migrated import migrate_sqlite

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = 25


@pytest.fixture(scope="module")
def fuzzed_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One service for all operations: what one request leaves behind, the next one meets."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    configured = Settings(data_dir=folder, upload_idle_s=2, max_upload_bytes=1 << 20)
    migrate_sqlite(configured.database)
    with serve(create_app(Components.build(configured))) as url:
        yield url


@pytest.fixture(scope="module")
def operations(fuzzed_url: str) -> list[APIOperation]:
    schema = schemathesis.openapi.from_url(f"{fuzzed_url}/openapi.json")
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_operation_answers_as_documented(operations: list[APIOperation]) -> None:
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=list(CHECKS), timeout=30)

        check()
    assert len(operations) > 25
