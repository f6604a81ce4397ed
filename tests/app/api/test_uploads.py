"""Multipart uploads through the service (the contract on S3 is the same and is tested end to end)."""

import hashlib
from typing import NoReturn

import httpx
import numpy as np
import pytest

from app.api.components import Components
from app.services.library import Library
from app.services.uploads import Uploads
from app.storage import Part
from tests.support.api import OCTETS, send
from tests.support.files import npz_bytes, onnx_classifier
from tests.support.sizes import MIB


@pytest.fixture
def big() -> bytes:
    """A data set of 12 MiB: three parts."""
    rows = 12 * MIB // 16
    return npz_bytes(rows, x=np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32))


def begin(client: httpx.Client, body: bytes, **extra: object) -> dict:
    request = {"kind": "dataset", "name": "big", "bytes": len(body), **extra}
    answer = client.post("/uploads", json=request)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_parts_become_a_data_set(client: httpx.Client, big: bytes) -> None:
    digest = hashlib.sha256(big).hexdigest()
    upload = begin(client, big, sha256=digest, dataset={"splits": {"test": 1.0}})
    done = client.post(f"/uploads/{upload['id']}/complete", json={"parts": send(client, upload, big)})

    assert done.status_code == 200, done.text
    shown = client.get(f"/datasets/{done.json()['resource']}").json()
    assert len(upload["parts"]) > 2
    assert (shown["sha256"], shown["bytes"]) == (digest, len(big))
    assert client.get(f"/datasets/{shown['id']}/content").content == big


def test_completing_twice_gives_the_same_resource(client: httpx.Client, big: bytes) -> None:
    upload = begin(client, big)
    parts = {"parts": send(client, upload, big)}
    first = client.post(f"/uploads/{upload['id']}/complete", json=parts).json()
    second = client.post(f"/uploads/{upload['id']}/complete", json=parts).json()

    assert first["resource"] == second["resource"]
    assert len(client.get("/datasets").json()["data"]) == 1


def test_a_wrong_digest_is_refused_and_nothing_is_kept(
    client: httpx.Client, big: bytes, components: Components
) -> None:
    upload = begin(client, big, sha256="0" * 64)
    refused = client.post(f"/uploads/{upload['id']}/complete", json={"parts": send(client, upload, big)})

    assert (refused.status_code, refused.json()["code"]) == (422, "upload.digest_mismatch")
    assert client.get(f"/uploads/{upload['id']}").json()["status"] == "aborted"
    assert list(components.store.list("")) == []


def test_wrong_parts_leave_the_upload_open(client: httpx.Client, big: bytes) -> None:
    upload = begin(client, big)
    parts = send(client, upload, big)
    for wrong in (parts[:-1], list(reversed(parts)), [{**parts[0], "etag": "nonsense"}, *parts[1:]]):
        refused = client.post(f"/uploads/{upload['id']}/complete", json={"parts": wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "upload.parts_mismatch"), wrong

    assert client.post(f"/uploads/{upload['id']}/complete", json={"parts": parts}).status_code == 200


def test_a_part_of_the_wrong_size_is_refused(client: httpx.Client, big: bytes) -> None:
    upload = begin(client, big)
    url = upload["parts"][0]["url"]

    assert client.put(url, content=b"short", headers=OCTETS).json()["code"] == "upload.digest_mismatch"
    assert client.put(url, content=big[: 6 * MIB], headers=OCTETS).json()["code"] == "request.too_large"
    beyond = url.rsplit("/", 1)[0] + "/99"
    assert client.put(beyond, content=b"x", headers=OCTETS).json()["code"] == "upload.no_such_part"


def test_an_aborted_upload_takes_nothing(client: httpx.Client, big: bytes) -> None:
    upload = begin(client, big)
    assert client.delete(f"/uploads/{upload['id']}").status_code == 204

    refused = client.put(upload["parts"][0]["url"], content=b"x", headers=OCTETS)

    assert (refused.status_code, refused.json()["code"]) == (409, "upload.not_open")


def test_a_file_that_is_not_fit_aborts_the_upload(client: httpx.Client) -> None:
    junk = b"no model" * 10
    upload = client.post("/uploads", json={"kind": "model", "name": "m", "bytes": len(junk)}).json()
    refused = client.post(f"/uploads/{upload['id']}/complete", json={"parts": send(client, upload, junk)})

    assert refused.json()["code"] == "model.unsupported_format"
    assert client.get(f"/uploads/{upload['id']}").json()["status"] == "aborted"


class _FailingLibrary(Library):
    """Fails as no library should."""

    failure: type[BaseException] = Exception

    def add_model(self, *_: object, **__: object) -> NoReturn:
        raise self.failure("not foreseen")


@pytest.mark.parametrize("failure", [TypeError, OSError, MemoryError, KeyboardInterrupt])
def test_an_upload_is_open_again_after_a_failure_that_nobody_foresaw(
    client: httpx.Client, components: Components, failure: type[BaseException]
) -> None:
    body = onnx_classifier()
    shown = client.post("/uploads", json={"kind": "model", "name": "m", "bytes": len(body)}).json()
    etags = send(client, shown, body)
    library = _FailingLibrary(components.database, components.store, components.settings)
    library.failure = failure
    failing = Uploads(components.database, components.store, library, components.settings)
    upload = failing.get("default", shown["id"])
    with pytest.raises(failure):
        failing.complete(upload.tenant, upload, [Part(part["number"], part["etag"]) for part in etags])

    assert client.get(f"/uploads/{shown['id']}").json()["status"] == "open"
    assert client.post(f"/uploads/{shown['id']}/complete", json={"parts": etags}).status_code == 200


def test_a_model_comes_in_parts_too(client: httpx.Client) -> None:
    body = onnx_classifier()
    upload = client.post("/uploads", json={"kind": "model", "name": "m", "bytes": len(body)}).json()
    done = client.post(f"/uploads/{upload['id']}/complete", json={"parts": send(client, upload, body)})

    assert done.json()["resource"].startswith("mdl_")


def test_too_much_is_refused_before_anything_is_sent(client: httpx.Client) -> None:
    refused = client.post("/uploads", json={"kind": "model", "name": "m", "bytes": 25 * MIB})

    assert (refused.status_code, refused.json()["code"]) == (413, "upload.too_large")
