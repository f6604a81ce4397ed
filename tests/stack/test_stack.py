"""The servers do what the tests rely on."""

import psycopg
import pytest
import redis as redis_client
from botocore.exceptions import EndpointConnectionError

from tests.support.stack.missing import ServerMissing, program, skip_or_fail


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def test_postgres_databases_are_empty_and_apart(postgres_database):
    one, other = postgres_database(), postgres_database()
    with connect(one) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    with connect(other) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert one != other
    assert tables == (0,)


def test_postgres_keeps_data_over_a_restart(postgres_server, postgres_url):
    with connect(postgres_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    postgres_server.stop()
    with pytest.raises(psycopg.OperationalError):
        connect(postgres_url)
    postgres_server.start()
    with connect(postgres_url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_redis_forgets_over_a_restart(redis):
    with redis_client.Redis.from_url(redis.url) as client:
        client.set("key", "value")
        assert client.get("key") == b"value"
        redis.stop()
        with pytest.raises(redis_client.ConnectionError):
            client.get("key")
        redis.start()
        assert client.get("key") is None


def test_redis_is_empty_for_each_test(redis, redis_url):
    with redis_client.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_s3_keeps_objects_over_a_restart(s3):
    bucket, client = s3.new_bucket(), s3.client()
    client.put_object(Bucket=bucket, Key="key", Body=b"content")
    s3.stop()
    with pytest.raises(EndpointConnectionError):
        client.get_object(Bucket=bucket, Key="key")
    s3.start()
    assert client.get_object(Bucket=bucket, Key="key")["Body"].read() == b"content"


def test_a_missing_program_names_its_cure(tmp_path):
    with pytest.raises(ServerMissing, match="no-such-server not found; install with apt-get install it"):
        program("no-such-server", folders=[tmp_path], install="apt-get install it")


def test_a_missing_server_skips_on_a_laptop_and_fails_in_ci(monkeypatch):
    missing = ServerMissing("redis-server not found")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="SKIPPED real stack: redis-server not found"):
        skip_or_fail(missing)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="redis-server not found"):
        skip_or_fail(missing)
