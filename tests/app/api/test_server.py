"""What a client may send, and how long it may take, before a request is whole."""

import json
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import httpx
import pytest

from app.api.server import MAX_HEADER_BYTES, BoundedHttp
from tests.support.api import OCTETS
from tests.support.files import npz_bytes

HEAD = b"GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = (
    b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)
MORE = b"X-More: " + b"a" * 1000 + b"\r\n"


def connect(base_url: str) -> socket.socket:
    address = urlsplit(base_url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def answered(connection: socket.socket) -> bytes:
    """All that comes until the service closes."""
    heard = b""
    try:
        while piece := connection.recv(4096):
            heard += piece
    except ConnectionResetError:
        pass
    return heard


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (HEAD, MORE),
        (HEAD + b"X-Long: ", b"a" * 1000),
        (b"GET /", b"a" * 1000),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", MORE),
        (CHUNKED + b"2\r\n{}\r\n0\r\nX-Long: ", b"a" * 1000),
        (CHUNKED + b"2;", b"a" * 1000),
    ],
    ids=["headers", "a header", "the path", "trailers", "a trailer", "an extension of a chunk"],
)
def test_what_comes_around_a_body_ends(base_url: str, start: bytes, more: bytes) -> None:
    sent = 0
    with connect(base_url) as connection:
        connection.sendall(start)
        try:
            while sent < 20 * MAX_HEADER_BYTES:
                connection.sendall(more * 16)
                sent += len(more) * 16
        except OSError:
            return
        heard = answered(connection)
    assert not heard or heard.startswith(b"HTTP/1.1 431")  # no answer where the application's own is on its way


def test_headers_that_are_long_and_end_pass(client: httpx.Client) -> None:
    assert client.get("/version", headers={"X-Long": "a" * 30_000}).status_code == 200


def test_a_body_in_many_small_chunks_passes(client: httpx.Client) -> None:
    body = npz_bytes()
    pieces = (body[at : at + 7] for at in range(0, len(body), 7))
    sent = client.post("/datasets", params={"name": "rows"}, content=pieces, headers=OCTETS)
    assert sent.status_code == 201, sent.text


@pytest.mark.parametrize("half", [b"", b"GET /ver", HEAD], ids=["nothing", "half a line", "half the headers"])
def test_half_a_request_is_given_up(base_url: str, monkeypatch: pytest.MonkeyPatch, half: bytes) -> None:
    monkeypatch.setattr(BoundedHttp, "header_seconds", 0.3)
    with connect(base_url) as connection:
        connection.sendall(half)
        heard = answered(connection)
    assert heard.startswith(b"HTTP/1.1 408"), heard
    assert b"request.headers_timeout" in heard


def test_a_second_request_has_a_deadline_of_its_own(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttp, "header_seconds", 0.3)
    with connect(base_url) as connection:
        connection.sendall(HEAD + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD)
        assert b"408" in answered(connection)


def test_more_connections_than_the_service_holds_are_refused(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttp, "max_connections", 3)
    held = [connect(base_url) for _ in range(3)]
    for connection in held:
        connection.sendall(HEAD + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    with connect(base_url) as refused:
        heard = answered(refused)
    held.pop().close()

    assert heard.startswith(b"HTTP/1.1 503")
    assert b"request.too_many_connections" in heard
    for connection in held:
        connection.close()
    assert httpx.get(f"{base_url}/livez").status_code == 200


def test_connections_stay_below_the_limit_of_files() -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); "
    code += "from app.api.server import BoundedHttp; print(BoundedHttp.max_connections)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 128


def test_what_is_no_http_is_answered_as_every_error(base_url: str) -> None:
    with connect(base_url) as connection:
        connection.sendall(HEAD + b"broken header line\r\n\r\n")
        head, _, body = answered(connection).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400")
    assert b"content-type: application/problem+json" in head
    shown = json.loads(body)
    assert shown["code"] == "request.unreadable"
    assert f"x-request-id: {shown['request_id']}".encode() in head
