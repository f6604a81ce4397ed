"""The two ways to run Pare, told apart by nothing but their settings."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from app.settings import Settings
from tests.support.installation.client import Client
from tests.support.installation.service import START_SECONDS, Service
from tests.support.installation.waiting import until
from tests.support.stack.process import free_ports

WORKER_READY = "serving queue"


class Installation:
    """The processes that share one set of settings; `close` ends those that still run."""

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self.settings: dict[str, object] = {"data_dir": folder / "data", "port": self.port, **settings}
        self.services: list[Service] = []
        self.client = Client(f"http://127.0.0.1:{self.port}")

    def loaded(self) -> Settings:
        """Return the settings as the services read them, for what a test does behind their backs."""
        return Settings.model_validate(self.settings)

    def start(self, *words: str, **settings: object) -> Service:
        """Start `python -m` with these words; settings given here are its own."""
        log = self.folder / f"{len(self.services):02}-{'-'.join(words)}.log"
        service = Service(*words, settings=self.settings | settings, log=log)
        self.services.append(service)
        return service

    def migrate(self) -> None:
        migration = self.start("migrations")
        assert migration.await_end(START_SECONDS) == 0, migration.tail()

    def serve(self, *words: str, **settings: object) -> Service:
        """Start a process that answers HTTP and wait until it does."""
        service = self.start(*words, **settings)
        until(lambda: self._answers() or not service.is_running, f"{service.name} to answer", START_SECONDS)
        assert service.is_running, service.tail()
        return service

    def start_worker(self, **settings: object) -> Service:
        """Start a worker and wait until it takes jobs."""
        worker = self.start("worker", **settings)
        worker.await_word(WORKER_READY)
        return worker

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(service.tail() for service in self.services)

    def close(self) -> None:
        self.client.close()
        for service in reversed(self.services):
            service.stop()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.client.url}/livez", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def installed(folder: Path, settings: Mapping[str, object]) -> Iterator[Installation]:
    """Lay an installation out; nothing is started yet, everything is ended."""
    made = Installation(folder, settings)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def embedded(folder: Path, **settings: object) -> Iterator[Installation]:
    """One process, SQLite, a folder, `memory://`."""
    with installed(folder, settings) as stack:
        stack.serve("worker", "embedded")
        yield stack


def server_settings(postgres, redis, s3) -> tuple[dict[str, object], str]:
    """Return settings that name a new database and a new bucket on these servers, and the database's name."""
    database = postgres.create()
    settings: dict[str, object] = {"database_url": postgres.url(database), "broker_url": redis.url}
    return settings | s3.settings(s3.new_bucket(), prefix=secrets.token_hex(4)), database
