"""An installation on real servers whose processes and servers the tests kill, stop and start."""

import signal
from functools import cached_property
from uuid import UUID

import psutil
import redis as redis_client

from app.db import jobs
from app.db.database import Database
from app.db.tables import Artifact, Job
from app.ids import parse
from tests.support.files import npz_bytes, onnx_classifier
from tests.support.installation.client import Client
from tests.support.installation.jobs import TINY_SPLITS, heavy_classifier, recipe
from tests.support.installation.service import Service
from tests.support.installation.stacks import Installation

PACE = {
    "heartbeat_s": 1,
    "lease_s": 6,
    "dispatch_s": 0.3,
    "republish_s": 3,
    "sweep_s": 1,
    "retry_backoff_s": 0.2,
    "inspect_uploads": False,  # the tests count messages and processes
}
TENANT = "default"
SECONDS = {"batch": [4096], "runs": 10_000, "budget_s": 5}
"""Latency that takes some five seconds with the heavy model."""
MINUTES = SECONDS | {"budget_s": 600}


class Cluster:
    """The installation, the servers it uses, and what the database says behind the service's back."""

    def __init__(self, installation: Installation, postgres, redis, s3) -> None:
        self.installation = installation
        self.postgres, self.redis, self.s3 = postgres, redis, s3
        self.database = Database(installation.loaded().database)
        self.api = installation.serve("app")
        self.workers: list[Service] = []

    @property
    def client(self) -> Client:
        return self.installation.client

    @cached_property
    def tiny(self) -> str:
        return self.client.upload_model(onnx_classifier(), "tiny")

    @cached_property
    def heavy(self) -> str:
        return self.client.upload_model(heavy_classifier(), "heavy")

    @cached_property
    def rows(self) -> str:
        return self.client.upload_dataset(npz_bytes(), TINY_SPLITS)

    def brief(self, **changes: object) -> dict:
        """Return a job that takes a moment."""
        return recipe(self.tiny, self.rows, **changes)

    def lasting(self, latency: dict = MINUTES, **changes: object) -> dict:
        """Return a job that takes a while."""
        return recipe(self.heavy, self.rows, latency=latency, **changes)

    def measuring(self, latency: dict = MINUTES, **changes: object) -> str:
        """Submit such a job and wait until its child computes; its id."""
        job = self.client.submit(self.lasting(latency, **changes))
        self.client.wait_for_stage(job, "measuring")
        return job

    def have_workers(self, count: int) -> None:
        """Have exactly this many running workers."""
        self.workers = [worker for worker in self.workers if worker.is_running]
        while len(self.workers) > count:
            self.workers.pop().stop()
        while len(self.workers) < count:
            self.workers.append(self.installation.start_worker())

    def owner(self, job: str) -> Service:
        """Return the worker that has the job."""
        name = self.row(job).worker or ""
        return next(worker for worker in self.workers if name.split(":")[1] == str(worker.pid))

    def row(self, job: str) -> Job:
        with self.database.read() as session:
            row = jobs.of(session, TENANT, uuid(job))
            assert row is not None
            return row

    def artifact_rows(self, job: str) -> list[Artifact]:
        """Return what all attempts of the job delivered."""
        with self.database.read() as session:
            return list(session.query(Artifact).where(Artifact.job_id == uuid(job)))

    def restore(self) -> None:
        """Have every server and the API running again, and no unfinished job."""
        for server in (self.postgres, self.redis, self.s3):
            server.start()
        if not self.api.is_running:
            self.api = self.installation.serve("app")
        for worker in self.workers:
            if worker.is_running:
                worker.send(signal.SIGCONT)
        live = [job["id"] for job in self.client.get("/jobs?limit=200")["data"] if not job["finished_at"]]
        for job in live:
            self.client.http.post(f"/jobs/{job}/cancel")
        for job in live:
            self.client.wait(job, 40)

    def waiting_messages(self) -> int:
        """Return how many messages are in the broker, untaken."""
        with redis_client.Redis.from_url(self.redis.url) as client:
            return int(client.llen("cpu"))


def uuid(job: str) -> UUID:
    return parse("job", job)


def child_of(worker: Service) -> psutil.Process:
    """Return the process that computes for the worker: forked by the zygote, which the worker started."""
    (zygote,) = psutil.Process(worker.pid).children()
    (child,) = zygote.children()
    return child


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
