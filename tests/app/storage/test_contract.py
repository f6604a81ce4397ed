"""What every store promises, asked of a local folder and of a real S3 server."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from app.storage.errors import KeyTaken, ObjectCorrupt, ObjectMissing
from tests.support.sizes import MIB

WRONG = "0" * 64
OCTETS = "application/octet-stream"


def put(store, key, made):
    store.put(key, made.path, sha256=made.sha256, media_type=OCTETS)


def content(store, key, **span):
    return b"".join(store.read(key, **span))


def keys(store, prefix=""):
    return sorted(found.key for found in store.list(prefix))


@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 1, 8 * MIB, 8 * MIB + 1, 21 * MIB])
def test_what_was_put_is_read(store, source, size):
    made = source(size)
    put(store, "models/one.onnx", made)
    assert content(store, "models/one.onnx") == made.content
    assert store.size("models/one.onnx") == size


def test_put_takes_the_source_as_it_is_and_leaves_it(store, source):
    made = source(100)
    put(store, "a", made)
    made.path.write_bytes(b"changed since")
    assert content(store, "a") == made.content


def test_chunks_are_bounded(store, source):
    put(store, "a", source(5 * MIB))
    sizes = [len(chunk) for chunk in store.read("a")]
    assert sum(sizes) == 5 * MIB
    assert max(sizes) <= MIB


def test_ranges_are_half_open_and_clipped(store, source):
    made = source(10)
    put(store, "a", made)
    for start in (0, 1, 4, 9, 10, 11, 1000):
        for end in (None, 0, 1, 4, 5, 9, 10, 11, 2000):
            assert content(store, "a", start=start, end=end) == made.content[start:end], (start, end)


def test_ranges_of_nothing(store, source):
    put(store, "empty", source(0))
    for start, end in ((0, None), (0, 5), (1, None)):
        assert content(store, "empty", start=start, end=end) == b""


def test_a_range_across_chunks(store, source):
    made = source(3 * MIB)
    put(store, "a", made)
    span = {"start": MIB - 1, "end": 2 * MIB + 2}
    assert content(store, "a", **span) == made.content[MIB - 1 : 2 * MIB + 2]


def test_negative_ranges_are_a_defect(store, source):
    put(store, "a", source(10))
    for span in ({"start": -1}, {"end": -1}):
        with pytest.raises(ValueError, match="not a byte range"):
            store.read("a", **span)


def test_reading_what_is_missing_fails_at_the_call(store):
    for span in ({}, {"start": 5}, {"start": 3, "end": 3}, {"end": 0}):
        with pytest.raises(ObjectMissing, match="there is no object no/such"):
            store.read("no/such", **span)


def test_missing_objects(store, tmp_path):
    with pytest.raises(ObjectMissing):
        store.size("none")
    with pytest.raises(ObjectMissing):
        store.fetch("none", tmp_path / "target", sha256=WRONG)
    assert not (tmp_path / "target").exists()
    store.delete("none")


@pytest.mark.parametrize("size", [10, 9 * MIB])
def test_a_source_with_another_digest_never_becomes_visible(store, source, size):
    made = source(size)
    with pytest.raises(ObjectCorrupt):
        store.put("a", made.path, sha256=WRONG, media_type=OCTETS)
    assert keys(store) == []
    assert list(store.stale_uploads(datetime.now(UTC) + timedelta(days=1))) == []
    put(store, "a", made)
    assert content(store, "a") == made.content


@pytest.mark.parametrize("size", [10, 9 * MIB])
def test_the_same_content_may_be_put_again_and_other_content_may_not(store, source, size):
    first, other = source(size), source(size, seed=1)
    put(store, "a", first)
    put(store, "a", first)
    with pytest.raises(KeyTaken):
        put(store, "a", other)
    assert content(store, "a") == first.content


def test_a_wrong_source_is_refused_for_a_key_that_exists(store, source):
    first, other = source(10), source(10, seed=1)
    put(store, "a", first)
    with pytest.raises(ObjectCorrupt):
        store.put("a", other.path, sha256=first.sha256, media_type=OCTETS)
    assert content(store, "a") == first.content


def test_a_source_that_is_not_there_is_the_callers(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.put("a", tmp_path / "none", sha256=WRONG, media_type=OCTETS)


def test_concurrent_puts_of_one_content_all_succeed(store, source):
    made = source(2 * MIB)
    start = threading.Barrier(6)

    def one(_):
        start.wait()
        put(store, "same/key", made)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))
    assert content(store, "same/key") == made.content
    assert keys(store) == ["same/key"]


def test_concurrent_puts_and_deletes_in_one_folder(store, source):
    made = source(1000)

    def one(number):
        put(store, f"job/{number}", made)
        store.delete(f"job/{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(30)))
    assert keys(store) == []


def test_fetch_verifies_and_replaces(store, source, tmp_path):
    made, target = source(9 * MIB), tmp_path / "target"
    target.write_bytes(b"earlier")
    put(store, "a", made)
    store.fetch("a", target, sha256=made.sha256)
    assert target.read_bytes() == made.content


def test_fetch_of_other_content_leaves_nothing(store, source, tmp_path):
    (tmp_path / "job").mkdir()
    put(store, "a", source(9 * MIB))
    with pytest.raises(ObjectCorrupt, match="the content of a has SHA-256"):
        store.fetch("a", tmp_path / "job" / "target", sha256=WRONG)
    assert list((tmp_path / "job").iterdir()) == []


def test_delete(store, source):
    put(store, "jobs/1/model", source(10))
    put(store, "jobs/1/report", source(11))
    store.delete("jobs/1/model")
    store.delete("jobs/1/model")
    assert keys(store) == ["jobs/1/report"]
    store.delete("jobs/1/report")
    put(store, "jobs/1/model", source(12))
    assert keys(store) == ["jobs/1/model"]


def test_list(store, source):
    before = datetime.now(UTC)
    for key in ("jobs/1/a", "jobs/1/b/c", "jobs/10", "jobs-2", "models/x"):
        put(store, key, source(7))
    assert keys(store) == ["jobs-2", "jobs/1/a", "jobs/1/b/c", "jobs/10", "models/x"]
    assert keys(store, "jobs/1") == ["jobs/1/a", "jobs/1/b/c", "jobs/10"]
    assert keys(store, "jobs/1/") == ["jobs/1/a", "jobs/1/b/c"]
    assert keys(store, "jobs") == ["jobs-2", "jobs/1/a", "jobs/1/b/c", "jobs/10"]
    assert keys(store, "nothing/") == []
    found = next(store.list("models/"))
    assert found.bytes == 7
    assert before - timedelta(seconds=2) <= found.modified <= datetime.now(UTC) + timedelta(seconds=2)


NO_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    "..",
    "a/../b",
    "a/..",
    ".",
    "a/.",
    ".hidden",
    "a/.b",
    "A",
    "a b",
    "a\n",
    "ä",
    "a\\b",
    "a%2fb",
    "a\0",
    "a..b",
    "x" * 201,
    "a/" * 400 + "a",
]


def test_keys_that_are_none(store, source):
    made = source(1)
    calls = [
        lambda key: put(store, key, made),
        store.read,
        store.size,
        store.delete,
        store.begin,
        lambda key: store.link(key, file_name="a", media_type=OCTETS, expires_s=1),
        lambda key: store.part_link(key, "token", 1, expires_s=1),
    ]
    for key in NO_KEYS:
        for call in calls:
            with pytest.raises(ValueError, match="not a storage key"):
                call(key)


def test_a_digest_that_is_none(store, source, tmp_path):
    made = source(1)
    with pytest.raises(ValueError, match="not a SHA-256"):
        store.put("a", made.path, sha256=made.sha256.upper(), media_type=OCTETS)
    with pytest.raises(ValueError, match="not a SHA-256"):
        store.fetch("a", tmp_path / "t", sha256="")


def test_check_of_a_store_that_works(store):
    store.check()
    assert keys(store) == []
