"""The one-process installation loses nothing either, although its broker is only memory."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db import jobs
from app.db.database import Database
from app.ids import parse
from tests.support.files import npz_bytes, onnx_classifier
from tests.support.installation.cluster import MINUTES, PACE
from tests.support.installation.jobs import TINY_SPLITS, heavy_classifier, recipe
from tests.support.installation.stacks import Installation, installed

SOON = 30


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with installed(tmp_path, PACE | {"republish_s": 600}) as made:
        made.serve("worker", "embedded")
        yield made


@pytest.mark.slow
def test_jobs_survive_a_stop_and_a_kill(installation: Installation) -> None:
    client = installation.client
    heavy, rows = client.upload_model(heavy_classifier()), client.upload_dataset(npz_bytes(), TINY_SPLITS)
    tiny = client.upload_model(onnx_classifier())
    running = client.submit(recipe(heavy, rows, latency=MINUTES))
    client.wait_for_stage(running, "measuring")
    waiting = client.submit(recipe(tiny, rows))

    (service,) = installation.services
    service.send(signal.SIGTERM)
    service.await_end(SOON)
    states = _rows(installation, running, waiting)
    assert states == [("queued", 0), ("queued", 0)]  # handed back, not lost

    second = installation.serve("worker", "embedded")
    client.wait_for_stage(running, "measuring", attempt=2)
    family = second.descendants()
    second.kill()
    assert _rows(installation, running) == [("running", 0)]

    installation.serve("worker", "embedded")
    client.wait_for_stage(running, "measuring", attempt=3)
    assert _rows(installation, running) == [("running", 1)]
    assert not any(one.is_running() for one in family)
    client.cancel(running)
    assert client.wait(waiting)["status"] == "succeeded"
    assert len(list(installation.loaded().scratch.glob("worker-*"))) == 1


def _rows(installation: Installation, *ids: str) -> list[tuple[str, int]]:
    database = Database(installation.loaded().database)
    with database.read() as session:
        found = [jobs.of(session, "default", parse("job", one)) for one in ids]
    database.close()
    return [(one.state, one.lost) for one in found]
