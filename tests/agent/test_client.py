"""The credential goes to the service, over a line that is checked, and nowhere else."""

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pare_agent.client import Client, Insecure, Refused, Unreachable
from pare_agent.state import Enrolment, NotEnrolled

CONTENT = bytes(range(256)) * 4000


@contextmanager
def server(answers: dict[str, Any], certificate: Path | None = None) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """Serve `answers` by path: (status, headers, body); yields the port and what was asked."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(dict(self.headers))
            status, headers, body = answers[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # the standard library looks for this name

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        made.socket = context.wrap_socket(made.socket, server_side=True)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_address[1], asked
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("url", ["http://pare.example", "http://127.0.0.1.example:80", "ftp://127.0.0.1", "pare"])
def test_plain_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(Insecure, match="--allow-http"):
        Client(url, "secret")


def test_plain_http_is_for_loopback_or_those_who_ask_for_it() -> None:
    Client("http://127.0.0.1:1", "secret")
    Client("http://pare.example", "secret", allow_http=True)


def test_the_credential_is_not_taken_to_the_storage_server() -> None:
    with (
        server({"/object?signed": (200, {}, CONTENT)}) as (storage, asked_there),
        server({"/file": (307, {"Location": f"http://127.0.0.1:{storage}/object?signed"}, b"")}) as (port, asked),
    ):
        client = Client(f"http://127.0.0.1:{port}", "secret")

        assert b"".join(client.fetch("/file", 0)) == CONTENT
    assert asked[0]["Authorization"] == "Bearer secret"
    assert "Authorization" not in asked_there[0]


def test_a_redirect_to_an_insecure_place_is_not_followed() -> None:
    redirect = {"/file": (307, {"Location": "http://storage.example/object"}, b"")}
    with server(redirect) as (port, _), pytest.raises(Insecure):
        list(Client(f"http://127.0.0.1:{port}").fetch("/file", 0))


def test_a_server_without_ranges_is_read_from_its_start() -> None:
    with server({"/file": (200, {}, CONTENT)}) as (port, asked):
        rest = b"".join(Client(f"http://127.0.0.1:{port}").fetch("/file", 700_001))

    assert rest == CONTENT[700_001:]
    assert asked[0]["Range"] == "bytes=700001-"


@pytest.mark.parametrize(("status", "kind"), [(401, Refused), (409, Refused), (503, Unreachable), (429, Unreachable)])
def test_refusals_are_told_from_times_to_wait(status: int, kind: type[Exception]) -> None:
    problem = json.dumps({"code": "agent.task_gone", "detail": "It is gone."}).encode()
    with server({"/x": (status, {}, problem)}) as (port, _), pytest.raises(kind, match="It is gone"):
        Client(f"http://127.0.0.1:{port}").post("/x", {})


def test_nobody_there_is_a_time_to_wait() -> None:
    with server({}) as (port, _):
        pass
    with pytest.raises(Unreachable):
        Client(f"http://127.0.0.1:{port}").post("/x", {})


def test_certificates_are_checked(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("OPENSSL IS MISSING: no certificate can be made")
    certificate = tmp_path / "server.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            certificate,
            "-out",
            tmp_path / "public.pem",
        ],
        check=True,
        capture_output=True,
    )
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "public.pem").read_bytes())
    with server({"/x": (200, {}, b"{}")}, certificate) as (port, asked):
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            Client(f"https://127.0.0.1:{port}", "secret").post("/x", {})
        assert asked == []
        trusted = Client(f"https://127.0.0.1:{port}", "secret", ca_file=str(tmp_path / "public.pem"))
        assert trusted.post("/x", {}) == {}


def test_an_enrolment_is_for_its_own_user_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with pytest.raises(NotEnrolled, match="pare-agent enrol"):
        Enrolment.load(state)
    kept = Enrolment("https://pare.example", "agt_1", "secret")
    kept.save(state)

    assert Enrolment.load(state) == kept
    assert (state / "agent.json").stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
