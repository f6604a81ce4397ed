"""docker/health.py, run as the images run it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import migrations
from app.db import workers
from app.db.database import Database
from app.settings import Settings
from tests.support.root import ROOT
from worker.runtime.presence import worker_name

HEALTH = ROOT / "docker" / "health.py"


def health(kind: str, **environment: str) -> int:
    ran = subprocess.run(
        [sys.executable, str(HEALTH), kind],
        env=os.environ | environment | {"PYTHONPATH": str(HEALTH.parents[1])},
        capture_output=True,
        check=False,
        timeout=60,
    )
    return ran.returncode


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_api_is_healthy_while_livez_answers() -> None:
    with answering(200) as port:
        assert health("api", PARE_PORT=str(port)) == 0
    assert health("api", PARE_PORT=str(port)) != 0


def test_an_api_that_answers_with_an_error_is_not_healthy() -> None:
    with answering(503) as port:
        assert health("api", PARE_PORT=str(port)) != 0


def test_a_worker_is_healthy_while_the_database_hears_of_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    migrations.upgrade(settings.database)
    database = Database(settings.database)
    with database.write() as session:
        workers.seen(session, "another-host:1:abcdef", queue="cpu", facts={})
    assert health("worker", PARE_DATA_DIR=str(tmp_path)) != 0

    with database.write() as session:
        workers.seen(session, worker_name(), queue="cpu", facts={})
    assert health("worker", PARE_DATA_DIR=str(tmp_path)) == 0
    database.close()
