"""A job's process gets toolchains started for it: confined like itself, ended with it, and their ends explained."""

import json
import platform
import shutil
import socket
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import worker
from app.spec.failure import Failure
from app.spec.targets import ToolchainName
from app.spec.work import WorkResult
from tests.support.runtime import stand_in
from tests.support.runtime.bench import JOBS, LIMITS, Bench
from worker.engine.toolchains.environments import NAMES, STAMP, Environments, digest
from worker.runtime.job_sandbox import JobSandbox, Limits

linux = pytest.mark.skipif(platform.system() != "Linux", reason="only rlimits elsewhere")
Answers = list[dict[str, Any]]


@dataclass(frozen=True)
class StandIns(Environments):
    """One environment without packages, whose process is `tests.support.runtime.stand_in`."""

    def command(self, name: ToolchainName) -> list[str]:
        folder = self.folder(name)
        return [str(folder / "bin" / "python"), "-I", "-B", str(folder / "stand_in.py"), worker.__path__[0]]


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> StandIns:
    made = StandIns(tmp_path_factory.mktemp("environments"))
    folder = made.folder("openvino")
    venv.create(folder, with_pip=False, symlinks=True)
    shutil.copyfile(stand_in.__file__, folder / "stand_in.py")
    (folder / STAMP).write_text(digest("openvino"))
    return made


@pytest.fixture(scope="module")
def room(environments: StandIns, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobSandbox]:
    scratch = tmp_path_factory.mktemp("scratch")
    with JobSandbox(
        scratch, sandbox="best-effort", threads=1, environments=environments, entry=f"{JOBS}:succeeds"
    ) as opened:
        yield opened


def answers(room: JobSandbox, folder: Path, *tasks: tuple[str, dict[str, Any]], limits: Limits = LIMITS) -> Answers:
    bench = Bench(room, folder)
    directory = bench.directory("job")
    (directory / "tasks.json").write_text(json.dumps([[task, arguments, 30] for task, arguments in tasks]))
    outcome = bench.run("uses_a_toolchain", directory=directory, limits=limits)
    assert isinstance(outcome, WorkResult), bench.heard.text()
    found: Answers = json.loads((directory / "out" / "answers.json").read_text())
    return found


def test_tasks_are_done_in_order_by_one_process(room: JobSandbox, tmp_path: Path) -> None:
    assert answers(room, tmp_path, ("say_back", {"a": [1, "ü"]}), ("say_back", {}), ("run_python", {})) == [
        {"a": [1, "ü"]},
        {},
        {"said": "42"},
    ]


def test_errors_of_a_task_have_codes_and_the_process_goes_on(room: JobSandbox, tmp_path: Path) -> None:
    refused, broken, alive = answers(room, tmp_path, ("refuse", {}), ("break_down", {}), ("say_back", {"still": 1}))

    assert refused == {
        "code": "toolchain.unsupported",
        "detail": "openvino: Unsuitable: There is no form for aten.fancy.",
    }
    assert broken["code"] == "toolchain.failed"
    assert "ValueError: an error of its own in two lines" in broken["detail"]
    assert alive == {"still": 1}


def test_a_process_that_dies_is_explained_with_its_last_words(room: JobSandbox, tmp_path: Path) -> None:
    died, after = answers(room, tmp_path, ("die", {}), ("say_back", {}))

    assert died["code"] == after["code"] == "toolchain.failed"
    assert "SIGABRT" in died["detail"]
    assert "last words" in died["detail"]


def test_a_process_is_held_to_the_jobs_memory(room: JobSandbox, tmp_path: Path) -> None:
    (hogged,) = answers(room, tmp_path, ("hog", {}), limits=Limits(60, 1 << 30, 64 << 20))

    assert hogged["code"] == "toolchain.failed"


@linux
def test_every_way_out_is_closed(room: JobSandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("another tenant's")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        aim = {"secret": str(secret), "port": listening.getsockname()[1]}
        (tried,) = answers(room, tmp_path / "jobs", ("reach", aim))

    assert len(tried) == 8
    assert {name: how for name, how in tried.items() if how not in {"EPERM", "EACCES"}} == {}


def test_the_process_knows_nothing_of_ours(room: JobSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARE_S3_SECRET_KEY", "hunter2")
    (environ,) = answers(room, tmp_path, ("environment", {}))

    assert not [name for name in environ if name.startswith(("PARE_", "AWS_", "PYTEST"))]
    assert "hunter2" not in json.dumps(environ)
    assert environ["OMP_NUM_THREADS"] == "1"


def test_a_toolchain_ends_with_its_job(room: JobSandbox, tmp_path: Path) -> None:
    bench = Bench(room, tmp_path)
    directory = bench.directory("job")
    (directory / "tasks.json").write_text(json.dumps([["sleep", {}, 60]]))
    seen: list[int] = []

    def stop() -> str | None:
        children = [child.pid for child in psutil.Process(room.zygote_pid).children(recursive=True)]
        seen[:] = children if len(children) > len(seen) else seen
        return "enough" if len(seen) >= 2 else None

    bench.run("uses_a_toolchain", directory=directory, should_stop=stop)

    assert len(seen) == 2
    assert not [pid for pid in seen if psutil.pid_exists(pid)]


def test_a_missing_toolchain_is_a_typed_error(tmp_path: Path) -> None:
    with JobSandbox(tmp_path / "scratch", sandbox="best-effort", threads=1, entry=f"{JOBS}:succeeds") as bare:
        (missing,) = answers(bare, tmp_path, ("say_back", {}))

    assert missing["code"] == "toolchain.missing"
    assert "openvino is not installed" in missing["detail"]


def test_an_environment_made_from_another_lock_does_not_count(environments: StandIns, tmp_path: Path) -> None:
    assert environments.names() == ["openvino"]
    old = Environments(tmp_path)
    old.folder("openvino").mkdir()
    (old.folder("openvino") / STAMP).write_text("0" * 64)

    assert old.names() == []


@pytest.mark.parametrize("name", NAMES)
def test_every_lock_pins_every_package(name: ToolchainName) -> None:
    assert digest(name)
    lines = (Path(worker.__path__[0]).parent / "toolchains" / f"{name}.txt").read_text().splitlines()
    assert lines
    assert all("==" in line for line in lines if not line.startswith(("#", "    --hash=")))


def test_a_number_is_used_once_and_only_for_a_folder(room: JobSandbox, tmp_path: Path) -> None:
    outcome = Bench(room, tmp_path).run("asks_for_too_many_toolchains")

    assert not isinstance(outcome, Failure)
