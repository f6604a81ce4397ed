"""From settings to a store, and what downloads are called."""

import pytest

from app.settings import Settings
from app.storage import open_store
from app.storage.disposition import attachment
from app.storage.errors import StorageUrlInvalid


def test_the_default_is_a_folder_in_the_data_directory(tmp_path, source):
    made = source(10)
    store = open_store(Settings(data_dir=tmp_path / "data"))
    store.put("a", made.path, sha256=made.sha256, media_type="text/plain")
    assert (tmp_path / "data/store/objects/a").read_bytes() == made.content


def test_opening_touches_nothing(tmp_path):
    open_store(Settings(data_dir=tmp_path / "data"))
    open_store(Settings(storage_url="s3://bucket/prefix", s3_endpoint="http://127.0.0.1:1"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "folder",
        "/folder",
        "file:folder",
        "file://server/folder",
        "s3://",
        "s3:bucket",
        "http://bucket/",
        "gs://b/p",
        "s3://key:hidden@bucket/p",
        "s3://bucket/../p",
        "s3://bucket/a b",
        "s3://bucket/p?x=hidden",
    ],
)
def test_urls_that_are_none(url):
    with pytest.raises(StorageUrlInvalid) as caught:
        # A relative default would hide the empty string.
        open_store(Settings.model_construct(storage_url=url) if url else Settings(storage_url=":"))
    assert "hidden" not in caught.value.detail


def test_an_endpoint_that_is_none():
    with pytest.raises(StorageUrlInvalid):
        open_store(Settings(storage_url="s3://bucket", s3_endpoint="not a url"))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("model.onnx", "model.onnx"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ('a"; filename="b', "a__ filename=_b"),
        ("a\r\nSet-Cookie: x", "a__Set-Cookie: x"),
        ("a\u202egnp.exe", "a_gnp.exe"),
        ("\ud800", "_"),
        ("", "download"),
        ("...", "download"),
        ("größe", "gr__e"),
        ("x" * 1000, "x" * 150),
    ],
)
def test_names_of_downloads(name, plain):
    header = attachment(name)
    assert header.startswith(f"attachment; filename=\"{plain}\"; filename*=UTF-8''")
    assert header.isascii()
    assert header.isprintable()
