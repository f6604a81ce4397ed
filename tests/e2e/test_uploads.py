"""Files go in and come out unchanged, in one body or in parts."""

import hashlib

import httpx
import numpy as np

from tests.support.files import npz_bytes, onnx_classifier
from tests.support.installation.client import OCTETS, Client, accepted
from tests.support.installation.serving import Stack
from tests.support.sizes import MIB

LARGE = npz_bytes(rows=500_000)


def test_a_model_comes_back_as_it_was_sent(client: Client) -> None:
    sent = onnx_classifier(seed=5)
    model = client.upload_model(sent, "tiny")
    shown = client.get(f"/models/{model}")

    assert (shown["bytes"], shown["sha256"]) == (len(sent), hashlib.sha256(sent).hexdigest())
    assert accepted(client.http.get(f"/models/{model}/content", follow_redirects=True)).content == sent


def test_a_data_set_goes_up_in_parts(stack: Stack) -> None:
    client = stack.client
    assert len(LARGE) > 10 * MIB
    announced = {"kind": "dataset", "name": "large", "bytes": len(LARGE), "sha256": hashlib.sha256(LARGE).hexdigest()}
    upload = accepted(client.http.post("/uploads", json=announced)).json()
    storage = stack.installation.settings.get("s3_endpoint", client.url)
    sent, start = [], 0
    for part in upload["parts"]:
        assert part["url"].startswith(str(storage))
        piece = LARGE[start : start + part["bytes"]]
        # Not the service's own client: a presigned link is all that the S3 server needs.
        answer = accepted(httpx.put(part["url"], content=piece, headers=OCTETS, timeout=60))
        sent.append({"number": part["number"], "etag": answer.headers["ETag"]})
        start += part["bytes"]
    done = accepted(client.http.post(f"/uploads/{upload['id']}/complete", json={"parts": sent})).json()
    again = accepted(client.http.post(f"/uploads/{upload['id']}/complete", json={"parts": sent})).json()

    assert len(sent) > 1
    assert done["status"] == "completed"
    assert again["resource"] == done["resource"]
    shown = client.get(f"/datasets/{done['resource']}")
    assert (shown["bytes"], shown["sha256"]) == (announced["bytes"], announced["sha256"])
    assert shown["info"]["rows"] == 500_000


def test_a_part_is_tampered_with_and_the_upload_refused(stack: Stack) -> None:
    client, content = stack.client, onnx_classifier(seed=6)
    announced = {"kind": "model", "name": "m", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    upload = accepted(client.http.post("/uploads", json=announced)).json()
    (part,) = upload["parts"]
    tampered = content[:-1] + bytes([content[-1] ^ 1])
    etag = accepted(httpx.put(part["url"], content=tampered, headers=OCTETS, timeout=60)).headers["ETag"]

    refused = client.http.post(f"/uploads/{upload['id']}/complete", json={"parts": [{"number": 1, "etag": etag}]})

    assert (refused.status_code, refused.json()["code"]) == (422, "upload.digest_mismatch")
    assert client.get(f"/uploads/{upload['id']}")["status"] == "aborted"


def test_an_upload_that_is_no_model_is_refused(client: Client) -> None:
    answer = client.http.post("/models", params={"name": "m"}, content=b"not a model" * 100, headers=OCTETS)
    pickled = client.http.post(
        "/datasets",
        params={"name": "d"},
        content=npz_bytes(x=np.array([{"a": 1}] * 4, dtype=object)),
        headers=OCTETS,
    )

    assert answer.status_code in {415, 422}
    assert pickled.status_code == 422
    assert pickled.headers["content-type"] == "application/problem+json"
