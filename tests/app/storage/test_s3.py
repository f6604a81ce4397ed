"""What only an S3 server has to answer for: links, the network, and other people's buckets."""

import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.settings import Settings
from app.storage import Part, open_store
from app.storage.errors import KeyTaken, ObjectCorrupt, StorageUnavailable
from tests.support.breaking_store import BreakingProxy
from tests.support.sizes import MIB
from tests.support.stack.swift_config import PAGE_SIZE

pytestmark = pytest.mark.real_stack
TOMORROW = datetime.now(UTC) + timedelta(days=1)
ONNX = "application/x-onnx"


PUT = """
import json, sys
from pathlib import Path
from app.settings import Settings
from app.storage import open_store
store = open_store(Settings(**json.loads(sys.argv[1])))
store.put("job/model", Path(sys.argv[2]), sha256=sys.argv[3], media_type="text/plain")
"""


def put(store, key, made):
    store.put(key, made.path, sha256=made.sha256, media_type=ONNX)


def get(link):
    with urllib.request.urlopen(link) as answer:
        return answer.read(), answer.headers


def refused(link):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(link)
    caught.value.close()
    return caught.value.code == 403


def test_a_link_downloads_under_a_name(remote, source):
    made = source(3 * MIB)
    put(remote, "models/1", made)
    link = remote.link("models/1", file_name='../größe "1".onnx', media_type=ONNX, expires_s=60)
    body, headers = get(link)
    assert body == made.content
    assert headers["Content-Type"] == ONNX
    assert headers["Content-Disposition"] == (
        "attachment; filename=\"_gr__e _1_.onnx\"; filename*=UTF-8''_gr%C3%B6%C3%9Fe%20_1_.onnx"
    )


def test_links_expire(remote, source):
    put(remote, "a", source(10))
    link = remote.link("a", file_name="a", media_type=ONNX, expires_s=1)
    assert len(get(link)[0]) == 10
    time.sleep(2.1)  # the server's clock counts whole seconds
    assert refused(link)


def test_a_link_opens_nothing_else(remote, source):
    put(remote, "mine", source(10))
    put(remote, "theirs", source(10))
    link = remote.link("mine", file_name="a", media_type=ONNX, expires_s=60)
    assert refused(link.replace("/mine?", "/theirs?"))
    assert refused(link.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"))
    assert refused(link.replace("application%2Fx-onnx", "text%2Fhtml"))
    assert refused(link[:-1] + ("0" if link[-1] != "0" else "1"))
    with pytest.raises(urllib.error.HTTPError, match="HTTP Error 4") as unsigned:
        get(link.partition("?")[0])
    unsigned.value.close()
    assert len(get(link)[0]) == 10


def send(link, body):
    request = urllib.request.Request(link, data=body, method="PUT")
    with urllib.request.urlopen(request) as answer:
        return answer.headers["ETag"]


def test_parts_straight_to_the_server(remote, source):
    made = source(12 * MIB)
    token = remote.begin("big")
    pieces = [made.content[start : start + 5 * MIB] for start in range(0, 12 * MIB, 5 * MIB)]
    parts = [
        Part(number, send(remote.part_link("big", token, number, expires_s=60), piece))
        for number, piece in enumerate(pieces, start=1)
    ]
    assert remote.complete("big", token, parts) == 12 * MIB
    assert hashlib.sha256(b"".join(remote.read("big"))).hexdigest() == made.sha256


def test_a_parts_link_takes_that_part_alone(remote):
    token = remote.begin("big")
    link = remote.part_link("big", token, 1, expires_s=60)
    for tampered in (link.replace("partNumber=1", "partNumber=2"), link.replace("/big?", "/other?")):
        assert tampered != link
        with pytest.raises(urllib.error.HTTPError, match="403") as caught:
            send(tampered, b"x")
        caught.value.close()


def test_links_are_for_the_address_that_clients_see(s3, bucket, prefix, source):
    settings = s3.settings(bucket, prefix)
    public = s3.endpoint.replace("127.0.0.1", "localhost")
    store = open_store(Settings(**settings, s3_public_endpoint=public))
    put(store, "a", source(10))
    link = store.link("a", file_name="a", media_type=ONNX, expires_s=60)
    assert link.startswith(public)
    assert len(get(link)[0]) == 10
    assert store.part_link("a", "token", 1, expires_s=60).startswith(public)


def test_the_prefix_is_kept_to(s3, bucket, remote, prefix, source):
    put(remote, "a", source(10))
    stored = s3.client().list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    assert [found["Key"] for found in stored] == [f"{prefix}/a"]
    outside = open_store(Settings(**s3.settings(bucket, f"{prefix}0")))
    put(outside, "b", source(10))
    outside.begin("c")
    assert [found.key for found in remote.list("")] == ["a"]
    assert list(remote.stale_uploads(TOMORROW)) == []


def test_a_bucket_without_prefix(s3, source):
    store = open_store(Settings(**s3.settings(s3.new_bucket())))
    put(store, "a/b", source(10))
    assert [found.key for found in store.list("")] == ["a/b"]


def test_listings_of_several_pages(s3, bucket, prefix, remote, source):
    count = 2 * PAGE_SIZE + 1
    for number in range(count):
        put(remote, f"many/{number}", source(1))
    first_page = s3.client().list_objects_v2(Bucket=bucket, Prefix=prefix)
    assert first_page["IsTruncated"]
    assert len({found.key for found in remote.list("many/")}) == count
    begun = {(f"open/{number}", remote.begin(f"open/{number}")) for number in range(count)}
    assert set(remote.stale_uploads(TOMORROW)) == begun


def test_an_object_changed_behind_our_back_is_noticed(s3, bucket, prefix, remote, source, tmp_path):
    made = source(100)
    put(remote, "a", made)
    s3.client().put_object(Bucket=bucket, Key=f"{prefix}/a", Body=made.content[:-1] + b"\0")
    with pytest.raises(ObjectCorrupt):
        remote.fetch("a", tmp_path / "target", sha256=made.sha256)
    with pytest.raises(KeyTaken):
        put(remote, "a", made)


def test_an_object_from_parts_is_recognised_by_its_content(remote, source):
    made = source(100)
    token = remote.begin("a")
    remote.complete("a", token, [Part(1, remote.write_part("a", token, 1, made.path))])
    put(remote, "a", made)
    with pytest.raises(KeyTaken):
        put(remote, "a", source(100, seed=1))


def every_call(store, made, target):
    return [
        store.check,
        lambda: put(store, "a", made),
        lambda: store.read("a"),
        lambda: store.fetch("a", target, sha256=made.sha256),
        lambda: store.size("a"),
        lambda: store.delete("a"),
        lambda: list(store.list("")),
        lambda: store.begin("a"),
        lambda: store.write_part("a", "token", 1, made.path),
        lambda: store.complete("a", "token", [Part(1, "etag")]),
        lambda: store.abort("a", "token"),
        lambda: list(store.stale_uploads(datetime.now(UTC))),
    ]


def unavailable(settings, source, tmp_path, secrets):
    store = open_store(Settings(**settings))
    for call in every_call(store, source(10), tmp_path / "target"):
        with pytest.raises(StorageUnavailable) as caught:
            call()
        assert not [secret for secret in secrets if secret in caught.value.detail]
    assert not (tmp_path / "target").exists()


def test_a_server_that_is_not_there(source, tmp_path):
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        keys = {"s3_access_key": "access", "s3_secret_key": "hidden"}
        settings = {"storage_url": "s3://bucket", "s3_endpoint": endpoint, **keys}
        unavailable(settings, source, tmp_path, [endpoint, "127.0.0.1", "hidden"])


def test_a_wrong_secret(s3, bucket, source, tmp_path):
    settings = {**s3.settings(bucket), "s3_secret_key": "wrong-secret"}
    unavailable(settings, source, tmp_path, [bucket, "wrong-secret"])


def test_a_bucket_that_is_not_there(s3):
    store = open_store(Settings(**s3.settings("no-such-bucket")))
    with pytest.raises(StorageUnavailable):
        store.check()


def test_a_server_that_goes_and_comes_back(s3, remote, source):
    made = source(10)
    put(remote, "a", made)
    s3.stop()
    with pytest.raises(StorageUnavailable):
        remote.size("a")
    s3.start()
    assert b"".join(remote.read("a")) == made.content


def test_a_download_that_breaks_off_goes_on(s3, bucket, prefix, remote, source, tmp_path):
    made = source(6 * MIB)
    put(remote, "a", made)
    with BreakingProxy(s3.endpoint, after_bytes=2_500_000) as proxy:
        store = open_store(Settings(**{**s3.settings(bucket, prefix), "s3_endpoint": proxy.endpoint}))
        store.fetch("a", tmp_path / "target", sha256=made.sha256)
        assert b"".join(store.read("a", start=10, end=5 * MIB)) == made.content[10 : 5 * MIB]
        assert proxy.broken >= 3
    assert (tmp_path / "target").read_bytes() == made.content


def test_a_download_that_always_breaks_off_is_given_up(s3, bucket, prefix, remote, source, tmp_path):
    made = source(6 * MIB)
    put(remote, "a", made)
    with BreakingProxy(s3.endpoint, after_bytes=5_000) as proxy:
        store = open_store(Settings(**{**s3.settings(bucket, prefix), "s3_endpoint": proxy.endpoint}))
        with pytest.raises(StorageUnavailable):
            store.fetch("a", tmp_path / "target", sha256=made.sha256)
    assert not (tmp_path / "target").exists()


def through(proxy, s3, bucket, prefix):
    return {**s3.settings(bucket, prefix), "s3_endpoint": proxy.endpoint}


def test_a_put_that_breaks_off_leaves_nothing(s3, bucket, prefix, remote, source):
    made = source(20 * MIB)
    with BreakingProxy(s3.endpoint, after_request_bytes=3 * MIB) as proxy:
        with pytest.raises(StorageUnavailable):
            put(open_store(Settings(**through(proxy, s3, bucket, prefix))), "a", made)
        assert proxy.broken
    assert list(remote.list("")) == []
    assert list(remote.stale_uploads(TOMORROW)) == []


def test_a_killed_put_leaves_nothing_visible_and_can_be_swept(s3, bucket, prefix, remote, source):
    made = source(20 * MIB)
    with BreakingProxy(s3.endpoint, after_request_bytes=3 * MIB, stall=True) as proxy:
        settings = json.dumps(through(proxy, s3, bucket, prefix))
        child = subprocess.Popen([sys.executable, "-c", PUT, settings, str(made.path), made.sha256], cwd=Path.cwd())
        proxy.stalled.wait(60)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert list(remote.list("")) == []
    ((key, token),) = remote.stale_uploads(TOMORROW)
    assert key == "job/model"
    remote.abort(key, token)
    assert list(remote.stale_uploads(TOMORROW)) == []
    put(remote, "job/model", made)
    assert remote.size("job/model") == 20 * MIB


def test_a_put_whose_upload_was_swept_may_be_tried_again(s3, bucket, prefix, remote, source):
    made = source(20 * MIB)
    with BreakingProxy(s3.endpoint, after_request_bytes=3 * MIB, stall=True) as proxy, ThreadPoolExecutor(1) as pool:
        store = open_store(Settings(**through(proxy, s3, bucket, prefix)))
        putting = pool.submit(put, store, "a", made)
        proxy.stalled.wait(60)
        for key, token in remote.stale_uploads(TOMORROW):
            remote.abort(key, token)
        proxy.go_on.set()
        with pytest.raises(StorageUnavailable):
            putting.result(60)
    assert list(remote.list("")) == []
