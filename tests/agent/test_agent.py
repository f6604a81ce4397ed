"""Whatever becomes of a task, the service hears of it: a silence would cost a lease each time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pare_agent.agent import Agent
from pare_agent.cache import Cache
from pare_agent.client import Insecure, Refused, Unreachable
from pare_agent.process import Bounds

from tests.support.agent.measured import ORDER
from tests.support.agent.tasks import files, sha256


class Service:
    """What the agent sees of a service with one task; `on` makes it answer something else."""

    def __init__(self, on: dict[str, Callable[[], Any]]) -> None:
        self.on, self.heard = on, []

    def _answer(self, what: str) -> None:
        if what in self.on:
            self.on[what]()

    def post(self, path: str, body: dict[str, Any], *, timeout_s: float = 0) -> dict[str, Any] | None:
        what = path.rpartition("/")[2]
        if what == "poll":
            announced = [
                {"role": role, "sha256": sha256(content), "bytes": len(content)} for role, content in files().items()
            ]
            return {
                "id": "tsk_1",
                "attempt": 1,
                "lease_s": 60,
                "heartbeat_s": 15,
                "order": ORDER,
                "files": announced,
            }
        self.heard.append((what, body))
        self._answer(what)
        return None

    def send(self, path: str, file: Path) -> None:
        self.heard.append(("outputs", file.stat().st_size))
        self._answer("outputs")

    def fetch(self, path: str, start: int) -> Iterator[bytes]:
        self._answer("fetch")
        yield next(content for content in files().values() if path.endswith(sha256(content)))[start:]


def run_once(tmp_path: Path, **on: Callable[[], Any]) -> list[tuple[str, Any]]:
    service = Service(on)
    agent = Agent(service, Cache(tmp_path / "files", 1 << 30), tmp_path / "work", Bounds(1 << 30))  # type: ignore[arg-type]
    assert agent.run_once()
    assert list((tmp_path / "work").iterdir()) == []
    return service.heard


def raising(*errors: Exception) -> Callable[[], None]:
    """Raise these, one a call, then nothing more."""
    left = list(errors)

    def answer() -> None:
        if left:
            raise left.pop(0)

    return answer


def test_outputs_go_before_the_figures(tmp_path: Path) -> None:
    outputs, result = run_once(tmp_path)

    assert (outputs[0], result[0]) == ("outputs", "result")
    assert result[1]["measurement"]["load_ms"] > 0


@pytest.mark.parametrize(
    ("place", "error", "code"),
    [
        ("fetch", Insecure("storage.example is not reached by https"), "agent.file_refused"),
        ("fetch", Refused(403, "", "The link has expired."), "agent.failed"),
        ("fetch", OSError(28, "No space left on device"), "agent.failed"),
        ("outputs", Refused(413, "request.too_large", "Too large."), "agent.failed"),
    ],
)
def test_what_goes_wrong_on_the_way_is_reported(tmp_path: Path, place: str, error: Exception, code: str) -> None:
    last = run_once(tmp_path, **{place: raising(error)})[-1]

    assert last[0] == "result"
    assert last[1]["failure"]["code"] == code


def test_figures_that_the_service_refuses_are_reported_as_none(tmp_path: Path) -> None:
    _, first, second = run_once(tmp_path, result=raising(Refused(422, "request.invalid", "No such field.")))

    assert "measurement" in first[1]
    assert "No such field" in second[1]["failure"]["detail"]


@pytest.mark.parametrize("place", ["fetch", "outputs"])
def test_a_task_that_is_gone_is_not_reported(tmp_path: Path, place: str) -> None:
    heard = run_once(tmp_path, **{place: raising(Refused(409, "agent.task_gone", "Gone."))})

    assert [what for what, _ in heard if what == "result"] == []


@pytest.mark.parametrize("place", ["fetch", "outputs", "result"])
def test_a_service_that_is_away_for_a_moment_is_asked_again(tmp_path: Path, place: str) -> None:
    heard = run_once(tmp_path, **{place: raising(Unreachable("away"))})

    assert "measurement" in heard[-1][1]
