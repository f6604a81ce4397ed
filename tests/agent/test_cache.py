"""Files come whole and as announced, or not at all."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pare_agent.cache import Cache, FileRefused

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def source(content: bytes, asked: list[int], cut: int | None = None) -> Callable[[int], Iterator[bytes]]:
    def fetch(start: int) -> Iterator[bytes]:
        asked.append(start)
        yield content[start:cut]

    return fetch


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    cache, asked = Cache(tmp_path, 1 << 20), []

    first = cache.get(SHA256, len(CONTENT), source(CONTENT, asked))
    second = cache.get(SHA256, len(CONTENT), source(CONTENT, asked))

    assert first.read_bytes() == second.read_bytes() == CONTENT
    assert asked == [0]


def test_a_broken_line_is_resumed_where_it_broke(tmp_path: Path) -> None:
    cache, asked = Cache(tmp_path, 1 << 20), []
    with pytest.raises(ConnectionError):
        cache.get(SHA256, len(CONTENT), source(CONTENT, asked, cut=100_000))

    assert cache.get(SHA256, len(CONTENT), source(CONTENT, asked)).read_bytes() == CONTENT
    assert asked == [0, 100_000]


@pytest.mark.parametrize("arrives", [CONTENT[:-1] + b"!", CONTENT + b"!"], ids=["changed", "longer"])
def test_what_was_not_announced_is_refused(tmp_path: Path, arrives: bytes) -> None:
    if arrives[:-1] == CONTENT[:-1] and arrives[-1:] == CONTENT[-1:]:
        pytest.skip("the random content ends like the changed one")
    with pytest.raises(FileRefused, match="announced was"):
        Cache(tmp_path, 1 << 20).get(SHA256, len(CONTENT), source(arrives, []))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_changed_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    cache, asked = Cache(tmp_path, 1 << 20), []
    held = cache.get(SHA256, len(CONTENT), source(CONTENT, asked))
    held.write_bytes(CONTENT[:-2] + b"??")

    assert cache.get(SHA256, len(CONTENT), source(CONTENT, asked)).read_bytes() == CONTENT
    assert asked == [0, 0]


def test_the_cache_stays_within_its_size(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 250)
    contents = [bytes([number]) * 100 for number in range(4)]
    for age, content in enumerate(contents):
        held = cache.get(hashlib.sha256(content).hexdigest(), 100, source(content, []))
        os.utime(held, (age, age))

    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == contents[2:]
    with pytest.raises(FileRefused, match="larger than the cache"):
        cache.get(SHA256, len(CONTENT), source(CONTENT, []))
