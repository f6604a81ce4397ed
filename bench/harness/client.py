"""The public HTTP API as a story uses it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from app.spec.report import Report

OCTETS = {"Content-Type": "application/octet-stream"}
ANSWER_SECONDS = 600


class Refused(Exception):
    """The service answered with a problem, or a job did not succeed."""


class Client:
    """One connection to a service; answers that are errors raise `Refused`."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def upload(self, kind: str, path: Path, **params: str) -> str:
        """Send a file to `models` or `datasets`; its id."""
        with path.open("rb") as body:
            return self.send(kind, body, name=path.stem, **params)

    def send(self, kind: str, body: Any, *, length: int | None = None, **params: str) -> str:
        """Stream a body to `models` or `datasets`; the id of what it became."""
        sizes = {} if length is None else {"Content-Length": str(length)}
        answer = self._http.post(f"/{kind}", params=params, content=body, headers=OCTETS | sizes)
        return str(_fine(answer).json()["id"])

    def begin(self, request: dict[str, Any]) -> dict[str, Any]:
        """Open a multipart upload."""
        return dict(_fine(self._http.post("/uploads", json=request)).json())

    def send_part(self, url: str, body: Any, length: int) -> str:
        """Put one part to its URL; its ETag."""
        answer = self._http.put(url, content=body, headers=OCTETS | {"Content-Length": str(length)})
        return _fine(answer).headers["ETag"]

    def complete(self, upload: str, etags: list[str]) -> str:
        """Join the parts; the id of the model or data set they became."""
        parts = [{"number": number, "etag": etag} for number, etag in enumerate(etags, 1)]
        return str(_fine(self._http.post(f"/uploads/{upload}/complete", json={"parts": parts})).json()["resource"])

    def delete(self, kind: str, name: str) -> None:
        """Delete a model or a data set."""
        _fine(self._http.delete(f"/{kind}/{name}"))

    def submit(self, spec: dict[str, Any]) -> str:
        """Queue a job; its id."""
        return str(_fine(self._http.post("/jobs", json=spec)).json()["id"])

    def finished(self, job: str) -> dict[str, Any]:
        """Wait for the end of a job that succeeds."""
        with self._http.stream("GET", f"/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as feed:
            for _ in feed.iter_bytes():
                pass
        ended = dict(_fine(self._http.get(f"/jobs/{job}")).json())
        if ended["status"] != "succeeded":
            raise Refused(f"The job is {ended['status']}: {json.dumps(ended['error'])}")
        return ended

    def report(self, job: str) -> Report:
        """What was measured."""
        return Report.model_validate(_fine(self._http.get(f"/jobs/{job}/report")).json())

    def artifact(self, job: str, folder: Path) -> Path:
        """Download the job's only model."""
        delivered = _fine(self._http.get(f"/jobs/{job}/artifacts")).json()
        (model,) = (artifact for artifact in delivered if artifact["kind"] == "model")
        path = folder / model["name"]
        with self._http.stream("GET", f"/artifacts/{model['id']}/content") as answer, path.open("wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)
        return path


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client while the block lasts."""
    with httpx.Client(base_url=url, timeout=ANSWER_SECONDS, follow_redirects=True) as http:
        yield Client(http)


def _fine(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise Refused(f"{answer.status_code} {answer.read().decode(errors='replace')[:1000]}")
    return answer
