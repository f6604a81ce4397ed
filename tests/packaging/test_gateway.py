"""docker/gateway.conf under a real nginx: what compose publishes before the API."""

import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.root import ROOT
from tests.support.stack.missing import ServerMissing, program, skip_or_fail

START_SECONDS = 10


class Upstream(BaseHTTPRequestHandler):
    """Echoes the Host it got, answers an upload at its first chunk, and sends one event and then waits."""

    release = threading.Event()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/events":
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            self.wfile.flush()
            self.release.wait(30)
            self.wfile.write(b"data: 2\n\n")
            self.close_connection = True
            return
        body = self.headers["Host"].encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        first = self.rfile.readline()  # a chunk's size: here before the client has sent the whole body
        self.send_response(413)
        self.send_header("Content-Length", str(len(first)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(first)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Gateway(NamedTuple):
    api: int
    s3: int


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    try:
        nginx = program("nginx", folders=[Path("/usr/sbin")], install="apt-get install nginx-light")
    except ServerMissing as reason:
        skip_or_fail(reason)
    where = tmp_path_factory.mktemp("nginx")
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    ports = Gateway(free_port(), free_port())
    conf = (ROOT / "docker" / "gateway.conf").read_text()
    for pattern, port in [("listen 8000", ports.api), ("listen 8333", ports.s3)]:
        conf = re.sub(pattern, f"listen 127.0.0.1:{port}", conf)
    conf = re.sub(r"proxy_pass http://[a-z0-9.]+:\d+", f"proxy_pass http://127.0.0.1:{upstream.server_port}", conf)
    temp = "".join(f"{kind}_temp_path {where};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    main = where / "nginx.conf"
    main.write_text(
        f"daemon off; pid {where}/pid; error_log stderr; events {{}} http {{ access_log off; {temp} {conf} }}"
    )
    process = subprocess.Popen([nginx, "-p", str(where), "-c", str(main)])
    try:
        wait_for(ports.api)
        yield ports
    finally:
        Upstream.release.set()
        process.terminate()
        process.wait(10)
        upstream.shutdown()
        upstream.server_close()


def wait_for(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("nginx did not start")


def get(port: int, host: str, path: str = "/") -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_the_api_sees_a_loopback_host(gateway: Gateway) -> None:
    assert get(gateway.api, "localhost:8000") == (200, "127.0.0.1:8000")


@pytest.mark.parametrize("host", ["rebound.example", "api", "10.0.0.5:8000", "127.0.0.1.rebound.example"])
def test_a_name_that_is_not_loopback_is_refused(gateway: Gateway, host: str) -> None:
    assert get(gateway.api, host)[0] == 421


def test_a_presigned_link_keeps_the_host_it_was_signed_for(gateway: Gateway) -> None:
    assert get(gateway.s3, "127.0.0.1:8333") == (200, "127.0.0.1:8333")


def test_an_event_arrives_before_the_next_one_exists(gateway: Gateway) -> None:
    with closing(HTTPConnection("127.0.0.1", gateway.api, timeout=10)) as connection:
        connection.request("GET", "/events", headers={"Host": "127.0.0.1"})
        answer = connection.getresponse()
        assert answer.readline() == b"data: 1\n"
        Upstream.release.set()
        assert b"data: 2" in answer.read()


def test_a_body_is_not_held_back_until_it_is_complete(gateway: Gateway) -> None:
    with closing(socket.create_connection(("127.0.0.1", gateway.api), timeout=10)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")
