"""What a client of the public HTTP API does: upload, submit, follow, download."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.installation.waiting import until

OCTETS = {"Content-Type": "application/octet-stream"}
ENDED = frozenset({"succeeded", "failed", "canceled"})
JOB_SECONDS = 240
"""A job takes seconds; on a machine that others use as well, minutes."""


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    seq: int
    kind: str
    data: dict[str, Any]


class Client:
    """Speaks to one service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=60)

    def close(self) -> None:
        self.http.close()

    def get(self, path: str) -> Any:
        """Return the JSON at `path`."""
        return accepted(self.http.get(path)).json()

    def upload_model(self, content: bytes, name: str = "model") -> str:
        """Upload as a raw body; the model's id."""
        return self._upload("/models", content, {"name": name})

    def upload_dataset(self, content: bytes, spec: dict[str, Any] | None = None, name: str = "rows") -> str:
        """Upload as a raw body; the data set's id."""
        return self._upload("/datasets", content, {"name": name, "spec": json.dumps(spec or {})})

    def _upload(self, path: str, content: bytes, params: dict[str, str]) -> str:
        return accepted(self.http.post(path, params=params, content=content, headers=OCTETS)).json()["id"]

    def submit(self, spec: dict[str, Any], key: str | None = None) -> str:
        """Submit a job; its id."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return accepted(self.http.post("/jobs", json=spec, headers=headers)).json()["id"]

    def job(self, job: str) -> dict[str, Any]:
        return self.get(f"/jobs/{job}")

    def cancel(self, job: str) -> dict[str, Any]:
        return accepted(self.http.post(f"/jobs/{job}/cancel")).json()

    def wait(self, job: str, seconds: float = JOB_SECONDS) -> dict[str, Any]:
        """Poll until the job has ended."""
        until(lambda: self.job(job)["status"] in ENDED, f"{job} to end", seconds)
        return self.job(job)

    def wait_for_stage(self, job: str, stage: str, *, attempt: int = 1, seconds: float = JOB_SECONDS) -> dict[str, Any]:
        """Poll until the job runs and its stage begins with `stage`, in this attempt or a later one."""

        def there() -> dict[str, Any] | None:
            shown = self.job(job)
            assert shown["status"] not in ENDED, f"the job ended as {shown['status']}: {shown['error']}"
            ready = shown["status"] == "running" and shown["attempt"] >= attempt
            return shown if ready and shown["stage"].startswith(stage) else None

        return until(there, f"{job} to reach the stage {stage!r}", seconds)

    def events(self, job: str) -> list[Event]:
        """Return all events so far, page by page."""
        events: list[Event] = []
        while True:
            page = self.get(f"/jobs/{job}/events?after={len(events)}&limit=500")
            events += [Event(event["seq"], event["kind"], event["data"]) for event in page["data"]]
            if not page["data"]:
                return events

    def states(self, job: str) -> list[str]:
        """Return the states that the job went through, from its events."""
        return [event.data["status"] for event in self.events(job) if event.kind == "state"]

    def stream(self, job: str, *, behind: int | None = None) -> Iterator[Event]:
        """Yield the job's events as they come, until the service ends the stream."""
        headers = {"Accept": "text/event-stream"} | ({} if behind is None else {"Last-Event-ID": str(behind)})
        with self.http.stream("GET", f"/jobs/{job}/events", headers=headers, timeout=JOB_SECONDS) as feed:
            assert feed.status_code == 200, feed.read()
            assert feed.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, str] = {}
            for line in feed.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                    continue
                if "data" in fields:
                    yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"])["data"])
                fields = {}

    def artifacts(self, job: str) -> list[dict[str, Any]]:
        return self.get(f"/jobs/{job}/artifacts")

    def download(self, artifact: str) -> bytes:
        """Return an artifact's bytes, from wherever the service sends the client."""
        return accepted(self.http.get(f"/artifacts/{artifact}/content", follow_redirects=True)).content


def accepted(answer: httpx.Response) -> httpx.Response:
    """Return the answer. Raises AssertionError with its text if it is an error."""
    assert answer.is_success, f"{answer.request.method} {answer.request.url.path} {answer.status_code}: {answer.text}"
    return answer
