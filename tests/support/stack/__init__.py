"""Real servers for the tests, started when a test first asks for one and stopped by their process ids.

Fixtures: `postgres_database` (a function that creates an empty database and returns its URL), `postgres_url` (one of
them), `migrated_postgres_url` (with today's tables), `redis` (the server, to be stopped and started), `redis_url`, and
`s3` (OpenStack Swift's S3 interface).
`postgres_server`, `redis_server` and `s3_server` live as long as the test run.
"""

from tests.support.stack.fixtures import (
    migrated_postgres_url,
    postgres_database,
    postgres_server,
    postgres_url,
    pytest_collection_modifyitems,
    redis,
    redis_server,
    redis_url,
    s3,
    s3_server,
)

__all__ = [
    "migrated_postgres_url",
    "postgres_database",
    "postgres_server",
    "postgres_url",
    "pytest_collection_modifyitems",
    "redis",
    "redis_server",
    "redis_url",
    "s3",
    "s3_server",
]
