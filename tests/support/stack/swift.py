"""A real S3 server: OpenStack Swift with its S3 interface, as this user, on the loopback interface.

It refuses bad signatures, expired links and wrong digests, which the usual S3 mocks wave through.
"""

import secrets
import subprocess
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

import boto3
from botocore.config import Config

from tests.support.stack.missing import ServerMissing
from tests.support.stack.process import Process, clean_environment, free_ports, listens
from tests.support.stack.swift_config import BACKENDS, ring_arguments, write_configuration
from tests.support.stack.swift_venv import swift_programs


class S3Server:
    """Swift's four processes below `folder`; `stop` and `start` keep what is stored and the address."""

    def __init__(self, folder: Path) -> None:
        self._bin = swift_programs()
        self._folder = folder
        self._ports = dict(zip((*BACKENDS, "proxy"), free_ports(4), strict=True))
        self._processes: list[Process] = []
        self.endpoint = f"http://127.0.0.1:{self._ports['proxy']}"
        self.region = "us-east-1"
        self.access_key = "test:tester"
        self.secret_key = secrets.token_hex(16)
        keys = {"access_key": self.access_key, "secret_key": self.secret_key}
        write_configuration(folder, self._ports, **keys, region=self.region)
        self._make_rings()
        self.start()

    def start(self) -> None:
        """Run the servers, if they are not running, and wait until they answer."""
        if self._processes:
            return
        for name in (*BACKENDS, "proxy"):
            command = [self._bin / f"swift-{name}-server", self._folder / f"{name}.conf", "--verbose"]
            self._processes.append(Process(command, log=self._folder / f"{name}.log"))
        try:
            for process, port in zip(self._processes, self._ports.values(), strict=True):
                process.wait_until(lambda port=port: listens(port))
            self._processes[-1].wait_until(self._answers)
        except ServerMissing:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the servers; connections are refused from then on."""
        for process in reversed(self._processes):
            process.stop()
        self._processes = []

    def new_bucket(self) -> str:
        """Create an empty bucket and return its name."""
        name = f"test-{secrets.token_hex(8)}"
        self.client().create_bucket(Bucket=name)
        return name

    @cache  # noqa: B019  # one server a test run, and boto3 takes half a second to make a client
    def client(self):
        """Return a boto3 client, for what a test does behind the service's back."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def settings(self, bucket: str, prefix: str = "") -> dict[str, str]:
        """Return the settings (`Settings(**…)`) that make the bucket the service's storage."""
        return {
            "storage_url": f"s3://{bucket}/{prefix}",
            "s3_endpoint": self.endpoint,
            "s3_region": self.region,
            "s3_access_key": self.access_key,
            "s3_secret_key": self.secret_key,
        }

    def _make_rings(self) -> None:
        words = [str(self._bin / "python"), *ring_arguments(self._folder, self._ports)]
        made = subprocess.run(words, capture_output=True, text=True, check=False, env=clean_environment())
        if made.returncode:
            raise ServerMissing(f"Swift's rings could not be made: {made.stderr.strip()[-1500:]}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthcheck", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
