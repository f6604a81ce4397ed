"""What only a local folder has to answer for."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from app.settings import Settings
from app.storage import open_store
from app.storage.errors import KeyTaken, ObjectCorrupt, ObjectMissing, StorageUnavailable, UploadGone

PUT = """
import sys
from pathlib import Path
from app.settings import Settings
from app.storage import open_store
store = open_store(Settings(storage_url=sys.argv[1]))
store.put("job/model", Path(sys.argv[2]), sha256="0" * 64, media_type="text/plain")
"""


def put(store, key, made):
    store.put(key, made.path, sha256=made.sha256, media_type="text/plain")


def visible(store):
    return [found.key for found in store.list("")]


def test_a_killed_put_leaves_nothing_visible_and_is_cleared_away(local, folder, source, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = subprocess.Popen([sys.executable, "-c", PUT, folder.as_uri(), str(pipe)], cwd=Path.cwd())
    with pipe.open("wb") as feed:
        feed.write(b"x" * 3_000_000)
        feed.flush()
        while not sum(path.stat().st_size for path in folder.glob("incoming/*")):
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert visible(local) == []
    (left,) = folder.glob("incoming/*")
    local.check()
    assert left.exists(), "it could be somebody's who still writes"
    os.utime(left, (0, 0))
    local.check()
    assert not left.exists()
    made = source(10)
    put(local, "job/model", made)
    assert b"".join(local.read("job/model")) == made.content


def test_nothing_is_left_in_incoming(local, folder, source):
    made = source(10)
    put(local, "a", made)
    with pytest.raises(ObjectCorrupt):
        local.put("b", made.path, sha256="0" * 64, media_type="text/plain")
    token = local.begin("c")
    local.write_part("c", token, 1, made.path)
    local.abort("c", token)
    assert [*folder.glob("incoming/*"), *folder.glob("uploads/*")] == []


def test_a_bit_that_flips_on_the_disk_is_noticed(local, folder, source, tmp_path):
    made = source(2_000_000)
    put(local, "a", made)
    with (folder / "objects" / "a").open("r+b") as file:
        file.seek(1_000_000)
        file.write(bytes([made.content[1_000_000] ^ 1]))
    with pytest.raises(ObjectCorrupt):
        local.fetch("a", tmp_path / "target", sha256=made.sha256)
    assert not (tmp_path / "target").exists()


def test_a_key_is_not_another_keys_folder(local, source):
    made = source(10)
    put(local, "a/b", made)
    with pytest.raises(KeyTaken):
        put(local, "a", made)
    with pytest.raises(KeyTaken):
        put(local, "a/b/c", made)
    with pytest.raises(ObjectMissing):
        local.size("a")
    local.delete("a")
    assert visible(local) == ["a/b"]


def test_a_folder_that_cannot_be_used(source, tmp_path):
    blocked = tmp_path / "secret name"
    blocked.write_text("a file, where a folder should be")
    store = open_store(Settings(storage_url=blocked.as_uri()))
    made = source(10)
    for call in (
        store.check,
        lambda: put(store, "a", made),
        lambda: store.begin("a"),
    ):
        with pytest.raises(StorageUnavailable) as caught:
            call()
        assert "secret name" not in caught.value.detail


def test_a_full_disk(source):
    store = open_store(Settings(storage_url="file:///dev/full/store"))
    with pytest.raises(StorageUnavailable):
        put(store, "a", source(10))


def test_two_stores_on_one_folder_are_one(local, folder, source):
    made = source(6_000_000)
    other = open_store(Settings(storage_url=folder.as_uri()))
    put(local, "a", made)
    assert b"".join(other.read("a")) == made.content
    token = local.begin("b")
    etag = other.write_part("b", token, 1, made.path)
    other.abort("b", token)
    with pytest.raises(UploadGone):
        local.write_part("b", token, 2, made.path)
    assert etag == made.sha256


def test_an_object_deleted_while_it_is_read_still_ends(local, source):
    made = source(3_000_000)
    put(local, "a", made)
    reading = local.read("a")
    first = next(reading)
    local.delete("a")
    assert first + b"".join(reading) == made.content


def test_links_are_the_services_to_serve(local):
    assert local.link("a", file_name="a", media_type="text/plain", expires_s=1) is None
    assert local.part_link("a", local.begin("a"), 1, expires_s=1) is None


def test_deleting_tidies_folders_up(local, folder, source):
    put(local, "a/b/c", source(1))
    put(local, "a/d", source(1))
    local.delete("a/b/c")
    assert not (folder / "objects/a/b").exists()
    assert visible(local) == ["a/d"]


def test_one_key_put_read_and_deleted_by_many(local, folder, source):
    made = source(1000)

    def one(number):
        key = f"a/b/{number % 3}/c"
        put(local, key, made)
        with suppress(ObjectMissing):
            assert b"".join(local.read(key)) == made.content
        local.delete(key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(1500)))
    assert list((folder / "objects").iterdir()) == []
    assert list((folder / "incoming").iterdir()) == []
