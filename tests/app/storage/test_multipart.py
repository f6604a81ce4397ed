"""Multipart uploads, on a local folder and on a real S3 server."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from app.storage import Part
from app.storage.errors import PartsMismatch, UploadGone
from tests.support.sizes import MIB

LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def three(source):
    """5 + 5 + 2 MiB."""
    return [source(5 * MIB, seed=1), source(5 * MIB, seed=2), source(2 * MIB, seed=3)]


def send(store, key, token, made):
    return [Part(n, store.write_part(key, token, n, one.path)) for n, one in enumerate(made, start=1)]


def test_three_parts_become_one_object(store, three):
    token = store.begin("models/big")
    parts = send(store, "models/big", token, three)
    assert list(store.list("")) == []
    assert store.complete("models/big", token, parts) == 12 * MIB
    assert b"".join(store.read("models/big")) == b"".join(one.content for one in three)
    assert list(store.stale_uploads(LATER)) == []


def test_parts_may_come_in_any_order_and_again(store, three, source):
    token = store.begin("big")
    last = store.write_part("big", token, 3, three[2].path)
    store.write_part("big", token, 1, source(5 * MIB, seed=9).path)
    second = store.write_part("big", token, 2, three[1].path)
    first = store.write_part("big", token, 1, three[0].path)
    assert store.complete("big", token, [Part(1, first), Part(2, second), Part(3, last)]) == 12 * MIB
    assert b"".join(store.read("big")) == b"".join(one.content for one in three)


def test_completing_again_returns_the_size_again(store, three):
    token = store.begin("big")
    parts = send(store, "big", token, three)
    assert store.complete("big", token, parts) == store.complete("big", token, parts) == 12 * MIB


def wrong_lists(parts):
    one, two, three = parts
    return {
        "none": [],
        "out of order": [two, one, three],
        "a gap": [one, three],
        "not from the start": [two, three],
        "twice": [one, one, two, three],
        "never sent": [*parts, Part(4, three.etag)],
        "swapped etags": [Part(1, two.etag), Part(2, one.etag), three],
        "an etag nobody gave": [one, two, Part(3, '"d41d8cd98f00b204e9800998ecf8427e"')],
        "no etag": [one, two, Part(3, "")],
        "markup for an etag": [one, two, Part(3, "</ETag><x>&amp;")],
        "a path for an etag": [one, two, Part(3, "../../key")],
        "a line break in an etag": [one, two, Part(3, "a\nb")],
        "a long etag": [one, two, Part(3, "e" * 100_000)],
        "too many": [Part(n, one.etag) for n in range(1, 10_002)],
    }


def test_wrong_lists_are_refused_and_the_upload_stays_open(store, three):
    token = store.begin("big")
    parts = send(store, "big", token, three)
    accepted = []
    for name, wrong in wrong_lists(parts).items():
        with suppress(PartsMismatch):
            store.complete("big", token, wrong)
            accepted.append(name)
    assert accepted == []
    assert list(store.list("")) == []
    assert store.complete("big", token, parts) == 12 * MIB


def test_small_parts_are_refused_unless_they_are_last(store, source):
    token = store.begin("big")
    parts = send(store, "big", token, [source(5 * MIB - 1), source(5 * MIB)])
    with pytest.raises(PartsMismatch):
        store.complete("big", token, parts)


def test_an_earlier_version_of_a_part_is_gone(store, source):
    token = store.begin("big")
    earlier = store.write_part("big", token, 1, source(100, seed=1).path)
    store.write_part("big", token, 1, source(100, seed=2).path)
    with pytest.raises(PartsMismatch):
        store.complete("big", token, [Part(1, earlier)])


def test_numbers_that_are_none(store, source):
    token = store.begin("big")
    for number in (-1, 0, 10_001):
        with pytest.raises(PartsMismatch):
            store.write_part("big", token, number, source(1).path)


def test_an_aborted_upload_is_gone(store, source):
    token = store.begin("big")
    parts = send(store, "big", token, [source(100)])
    store.abort("big", token)
    store.abort("big", token)
    with pytest.raises(UploadGone):
        store.write_part("big", token, 2, source(1).path)
    with pytest.raises(UploadGone):
        store.complete("big", token, parts)
    assert list(store.list("")) == []


def test_aborting_what_was_completed_keeps_the_object(store, source):
    token = store.begin("big")
    store.complete("big", token, send(store, "big", token, [source(100)]))
    store.abort("big", token)
    assert store.size("big") == 100


def test_tokens_that_are_none(store, source):
    one = source(1)
    for token in ("", ".", "..", "../objects", "x" * 32, "0" * 32, "no such token", "a/b"):
        with pytest.raises(UploadGone):
            store.write_part("big", token, 1, one.path)
        with pytest.raises(UploadGone):
            store.complete("big", token, [Part(1, "e" * 64)])
        store.abort("big", token)


def test_a_token_is_good_for_its_own_key_alone(store, source):
    token = store.begin("mine")
    parts = send(store, "mine", token, [source(100)])
    with pytest.raises(UploadGone):
        store.complete("theirs", token, parts)
    with pytest.raises(UploadGone):
        store.write_part("theirs", token, 1, source(1).path)
    store.abort("theirs", token)
    assert store.complete("mine", token, parts) == 100


def test_stale_uploads_are_those_begun_before(store, source):
    tokens = {("a/one", store.begin("a/one")), ("two", store.begin("two"))}
    put_key = source(10)
    store.put("three", put_key.path, sha256=put_key.sha256, media_type="text/plain")
    assert set(store.stale_uploads(LATER)) == tokens
    assert list(store.stale_uploads(datetime.now(UTC) - timedelta(hours=1))) == []
    for key, token in tokens:
        store.abort(key, token)
    assert list(store.stale_uploads(LATER)) == []
