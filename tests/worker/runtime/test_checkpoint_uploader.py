"""What an attempt finished is there for the next, whatever ends it; what is no file of the job's is not taken."""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from sqlalchemy import update

from app.api.components import Components
from app.db import checkpoints, events, jobs
from app.db.tables import Checkpoint, Job
from app.db.types import from_now
from app.services.sweep import Sweeper
from app.settings import Settings
from app.storage import Store
from app.storage.errors import StorageUnavailable
from tests.support.installation.waiting import until
from tests.support.migrated import migrate_sqlite
from tests.support.runtime.fixed_child import Sending, submitted
from worker.runtime.checkpoint_uploader import CheckpointUploader
from worker.runtime.job_sandbox import JobSandbox
from worker.runtime.runner import Runner

SOON = 20.0
NOW = timedelta(seconds=-2)


class Unsteady:
    """A store that is away at the first call."""

    def __init__(self, store: Store) -> None:
        self._store, self._calls = store, 0

    def put(self, *arguments: Any, **named: Any) -> None:
        self._calls += 1
        if self._calls == 1:
            raise StorageUnavailable("The storage does not answer.")
        self._store.put(*arguments, **named)

    def delete(self, key: str) -> None:
        self._store.delete(key)


@dataclass
class Bench:
    """A service of its own, one submitted job, and a worker that runs it with an entry of the tests'."""

    parts: Components
    job_sandbox: JobSandbox
    scratch: Path
    job: UUID
    draining: bool = False

    def attempt(self, entry: str) -> None:
        with self.parts.database.write() as session:
            session.execute(update(Job).values(run_after=from_now(-1)))
        Runner(
            self.parts.database,
            self.parts.store,
            Sending(self.job_sandbox, entry),
            self.parts.settings,
            scratch=self.scratch,
            name="w",
            is_draining=lambda: self.draining,
        ).run(self.job)

    def row(self) -> Job:
        with self.parts.database.read() as session:
            found = jobs.of(session, "t", self.job)
        assert found is not None
        return found

    def kept(self) -> dict[str, Checkpoint]:
        with self.parts.database.read() as session:
            return {one.name: one for one in checkpoints.of(session, self.job)}

    def said(self) -> list[str]:
        with self.parts.database.read() as session:
            rows = events.after(session, self.job, 0, limit=500, kind="log")
        return [row.data["message"] for row in rows if "confined" not in row.data["message"]]

    def content(self, key: str) -> bytes:
        return b"".join(self.parts.store.read(key))

    def stored(self) -> set[str]:
        return {one.key for one in self.parts.store.list("checkpoints/")}


@pytest.fixture
def bench(job_sandbox: JobSandbox, tmp_path: Path) -> Bench:
    settings = Settings(
        data_dir=tmp_path, heartbeat_s=0.2, retry_backoff_s=0, child_disk_bytes=1_000_000, inspect_uploads=False
    )
    migrate_sqlite(settings.database)
    parts = Components.build(settings)
    (tmp_path / "scratch").mkdir()
    return Bench(parts, job_sandbox, tmp_path / "scratch", submitted(parts, tmp_path, "onnx"))


def interrupted(bench: Bench, interrupt: Callable[[], object]) -> None:
    """Begin the training, wait until its second epoch is stored, and interrupt it."""
    working = threading.Thread(target=bench.attempt, args=("trains",))
    working.start()
    until(
        lambda: "epoch.json" in (kept := bench.kept()) and bench.content(kept["epoch.json"].key) == b"2",
        "the second epoch to be stored",
        SOON,
    )
    interrupt()
    working.join(SOON)
    assert not working.is_alive()


def running(bench: Bench) -> Path:
    """Begin an attempt without a child; its directory."""
    with bench.parts.database.write() as session:
        assert jobs.claim(session, bench.job, worker="w", queue="cpu", lease_s=60)
    directory = bench.scratch / "job"
    (directory / "checkpoints").mkdir(parents=True)
    return directory


def keep(bench: Bench, directory: Path, *names: str) -> None:
    with CheckpointUploader(
        bench.parts.database, bench.parts.store, bench.job, 1, directory, max_bytes=1000
    ) as uploader:
        for name in names:
            uploader.on_checkpoint(name)
        uploader.finish(SOON, lambda: False)


def kill_the_child(bench: Bench) -> None:
    (child,) = psutil.Process(bench.job_sandbox.zygote_pid).children()
    child.send_signal(signal.SIGKILL)


def test_after_a_kill_the_next_attempt_begins_at_the_epoch_that_was_kept(bench: Bench) -> None:
    interrupted(bench, lambda: kill_the_child(bench))
    assert (bench.row().state, bench.row().lost) == ("queued", 1)

    bench.attempt("trains")

    assert (bench.row().state, bench.row().attempt) == ("succeeded", 2)
    assert bench.said() == ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    assert bench.kept() == {}  # of no more use
    assert list(bench.scratch.iterdir()) == []


def test_a_drained_attempt_is_gone_on_with_and_not_counted(bench: Bench) -> None:
    interrupted(bench, lambda: setattr(bench, "draining", True))
    assert (bench.row().state, bench.row().lost) == ("queued", 0)

    bench.draining = False
    bench.attempt("trains")

    assert bench.said() == ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]


def test_a_canceled_job_keeps_nothing_and_begins_anew(bench: Bench) -> None:
    def cancel() -> None:
        with bench.parts.database.write() as session:
            assert jobs.request_cancel(session, bench.job)

    interrupted(bench, cancel)
    assert bench.row().state == "canceled"
    assert bench.kept() == {}

    assert Sweeper(bench.parts.database, bench.parts.store, bench.parts.settings).remove_orphans(age=NOW) == 1
    assert bench.stored() == set()


def test_a_failed_job_shows_its_last_step_and_a_retry_begins_behind_it(bench: Bench) -> None:
    bench.attempt("fails_after_a_step")

    row = bench.row()
    assert (row.state, row.error and row.error["code"]) == ("failed", "test.too_square")
    (artifact,) = bench.parts.jobs.artifacts("t", f"job_{bench.job.hex}")
    assert (artifact.kind, artifact.name) == ("checkpoint", "step-10.pt2")
    assert bench.content(artifact.key) == b"program 10"
    assert set(bench.kept()) == {f"step-{number}.{kind}" for number in (1, 2, 10) for kind in ("pt2", "json")}

    with bench.parts.database.write() as session:
        assert jobs.retry(session, bench.job)
    assert bench.parts.jobs.artifacts("t", f"job_{bench.job.hex}") == ()
    bench.attempt("finds_steps")
    assert bench.said()[-1] == "1, 10, 2"


@pytest.mark.parametrize(
    ("entry", "code", "shown"),
    [
        ("misses_a_limit", "limits.missed", {"step-1.pt2": "checkpoint", "model.onnx": "data"}),
        ("outlasts_its_time", "worker.timeout", {"step-1.pt2": "checkpoint"}),
    ],
)
def test_a_missed_limit_and_a_timeout_show_the_last_step_too(
    bench: Bench, entry: str, code: str, shown: dict[str, str]
) -> None:
    with bench.parts.database.write() as session:
        session.execute(update(Job).values(spec={**bench.row().spec, "timeout_s": 3}))
    bench.attempt(entry)

    row = bench.row()
    assert (row.state, row.error and row.error["code"]) == ("failed", code)
    artifacts = bench.parts.jobs.artifacts("t", f"job_{bench.job.hex}")
    assert {artifact.name: artifact.kind for artifact in artifacts} == shown


def test_a_dropped_file_and_a_replaced_version_are_deleted(bench: Bench) -> None:
    bench.attempt("drops_what_it_kept")

    assert set(bench.kept()) == {"step.json"}
    assert bench.stored() == {bench.kept()["step.json"].key}


def test_only_plain_files_of_the_job_are_taken(bench: Bench) -> None:
    directory = running(bench)
    folder = directory / "checkpoints"
    (folder / "link").symlink_to("/etc/hostname")
    (directory / "order.json").touch()
    (folder / "twin").hardlink_to(directory / "order.json")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "plain").write_text("plain")

    keep(bench, directory, "link", "twin", "pipe", "folder", "missing", "plain")

    assert set(bench.kept()) == {"plain"}
    assert len(bench.stored()) == 1


def test_a_folder_that_became_a_link_is_not_followed(bench: Bench) -> None:
    directory = running(bench)
    (directory / "checkpoints").rename(directory / "elsewhere")
    (directory / "elsewhere" / "plain").write_text("plain")
    (directory / "checkpoints").symlink_to("elsewhere")

    keep(bench, directory, "plain")

    assert bench.kept() == {}


def test_no_more_is_kept_than_a_job_may_write(bench: Bench) -> None:
    bench.attempt("keeps_too_much")

    assert set(bench.kept()) == {"a", "b"}


def test_a_name_that_is_a_path_breaks_the_protocol(bench: Bench) -> None:
    bench.attempt("names_a_path")

    assert bench.row().lost == 1  # a crash
    assert bench.kept() == {}


def test_an_attempt_that_was_given_up_on_stores_nothing(bench: Bench) -> None:
    directory = running(bench)
    (directory / "checkpoints" / "epoch.json").write_text("9")
    with bench.parts.database.write() as session:
        assert jobs.hand_back(session, bench.job, 1)

    keep(bench, directory, "epoch.json")

    assert bench.kept() == {}
    assert bench.stored() == set()


def test_a_storage_that_is_away_for_a_moment_is_waited_for(bench: Bench) -> None:
    directory = running(bench)
    (directory / "checkpoints" / "epoch.json").write_text("9")
    bench.parts = replace(bench.parts, store=Unsteady(bench.parts.store))

    keep(bench, directory, "epoch.json")

    assert set(bench.kept()) == {"epoch.json"}


def test_a_description_is_never_recorded_without_what_it_describes(bench: Bench) -> None:
    directory = running(bench)
    folder = directory / "checkpoints"
    seen: list[dict[str, bytes]] = []
    first = threading.Event()

    class Slow(Unsteady):
        """While a file is stored, the child goes on: the next epoch replaces the description."""

        def put(self, *arguments: Any, **named: Any) -> None:
            first.wait()
            seen.append({name: bench.content(one.key) for name, one in bench.kept().items()})
            self._store.put(*arguments, **named)
            if len(seen) == 1:
                write(2)

    def write(epoch: int) -> None:
        for name in (f"tensors-{epoch % 2}", "description"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_text(str(epoch))
            uploader.on_checkpoint(name)

    store = bench.parts.store
    with CheckpointUploader(bench.parts.database, Slow(store), bench.job, 1, directory, max_bytes=1000) as uploader:
        write(1)
        first.set()
        uploader.finish(SOON, lambda: False)

    # The uploader may wake between the two files of the first epoch: that round holds tensors alone.
    assert seen[0] == {}
    for kept in seen:
        if "description" in kept:
            epoch = kept["description"]
            assert kept[f"tensors-{int(epoch) % 2}"] == epoch
    assert {name: bench.content(one.key) for name, one in bench.kept().items()} == {
        "tensors-1": b"1",
        "tensors-0": b"2",
        "description": b"2",
    }
