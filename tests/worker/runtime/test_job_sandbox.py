"""Every way a job can end is a value, and the next job is none the worse for it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from app.spec.failure import Failure
from app.spec.work import WorkResult
from tests.support.root import ROOT
from tests.support.runtime.bench import Bench
from tests.support.runtime.orders import order, prepare, result
from tests.support.sizes import GIB, MIB
from worker.runtime.errors import NotStarted
from worker.runtime.job_sandbox import JobSandbox, Limits, Stopped

linux = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
root = pytest.mark.skipif(
    sys.platform != "linux" or not os.access("/proc/self/map_files", os.R_OK) or os.getuid() != 0,
    reason="only root may look into mapped files",
)
SMALL = Limits(wall_s=60, memory_bytes=600 * MIB, file_bytes=8 * MIB)


@pytest.fixture(autouse=True)
def the_next_job_succeeds(bench: Bench) -> object:
    yield
    heard = bench.heard
    assert isinstance(bench.run("succeeds", directory=bench.directory("next")), WorkResult)
    bench.heard = heard


def failure(bench: Bench, job: str, **options: object) -> Failure:
    outcome = bench.run(job, **options)
    assert isinstance(outcome, Failure), outcome
    assert str(bench.folder) not in outcome.detail + outcome.remedy
    return outcome


def test_a_result_comes_back_with_its_story_in_order(bench: Bench) -> None:
    started = time.monotonic()
    outcome = bench.run("succeeds")

    assert isinstance(outcome, WorkResult)
    assert outcome.report.notes == ("1 threads", "succeeds")
    assert outcome.artifacts[0].file == "weights.bin"
    assert (bench.folder / "succeeds/out/weights.bin").read_bytes() == b"w" * 1000
    places = [(progress.step, progress.fraction) for progress in bench.heard.progress]
    assert places == sorted(places)
    assert {step for step, _ in places} == {1, 2, 3}
    assert bench.heard.progress[-1].overall == pytest.approx(2.5 / 3)
    said = [line.message for line in bench.heard.log]
    assert said[0].startswith("confined by ")
    assert said[1:5] == ["in stage 1", "and more", "in stage 2", "and more"]
    assert bench.heard.text("output") == "printed by a library"
    print(f"a whole run took {time.monotonic() - started:.3f} s")


def test_the_parent_never_loads_a_numeric_library(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from worker.runtime.job_sandbox import JobSandbox\n"
        "with JobSandbox(Path(sys.argv[1]), sandbox='best-effort', threads=1, "
        "entry='tests.support.runtime.jobs:exits'): pass\n"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'numpy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []  # the zygote's and the trial's folders are gone


def test_fork_to_first_line(bench: Bench) -> None:
    waits = []
    for attempt in range(5):
        started = time.monotonic()
        outcome = bench.run("exits_at_once", directory=bench.directory(f"wait{attempt}"))
        waits.append(time.monotonic() - started)
        assert isinstance(outcome, WorkResult)
    print(f"a job that does nothing takes {min(waits) * 1000:.0f} to {max(waits) * 1000:.0f} ms")


def test_thread_pools_compute_inside_the_jail(bench: Bench) -> None:
    directory = bench.directory("computes")
    square = [600, 600]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"])],
        "square",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, square)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, square)],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), directory / "model.onnx")

    outcome = bench.run("computes", directory=directory)

    assert isinstance(outcome, WorkResult), bench.heard.text()
    assert outcome.report.notes == ("True", "True", "2", "True")


def test_the_whole_toolchain_works_inside_the_jail(bench: Bench) -> None:
    outcome = bench.run("exports_and_quantizes")

    assert isinstance(outcome, WorkResult), bench.heard.text()
    assert outcome.report.notes == ("True", "True")


def test_every_format_of_data_is_read_inside_the_jail(bench: Bench) -> None:
    outcome = bench.run("reads_every_format")

    assert isinstance(outcome, WorkResult), bench.heard.text()
    read = ("tar", "deflated", "parquet", "arrays.npz")
    assert outcome.report.notes == tuple(f"{name} (2, 3, 6, 6) [0, 1]" for name in read)


def test_a_documented_error_keeps_its_code_and_cure(bench: Bench) -> None:
    assert failure(bench, "documented_error") == Failure(
        code="test.too_square", detail="The model is square.", remedy="Round it off."
    )
    assert "Traceback" in bench.heard.text("engine")


def test_an_unforeseen_error_is_told_without_paths(bench: Bench) -> None:
    error = failure(bench, "unexpected_error")

    assert error.code == "worker.unforeseen"
    assert error.detail == (
        "ValueError: cannot read <job>/weights and <python>/lib/thing.py \\x1b[31m at node /head/Conv"
    )
    assert "in unexpected_error" in bench.heard.text("engine")
    assert sys.prefix not in bench.heard.text()
    assert str(ROOT) not in bench.heard.text()


@pytest.mark.parametrize(
    ("job", "words"),
    [("exits", "status 3"), ("segfaults", "SIGSEGV"), ("aborts", "SIGABRT")],
)
def test_an_end_without_a_result_is_a_crash(bench: Bench, job: str, words: str) -> None:
    crash = failure(bench, job)

    assert crash.code == "worker.crashed"
    assert words in crash.detail


def test_a_job_that_exits_in_python_has_not_ended_well(bench: Bench) -> None:
    error = failure(bench, "calls_sys_exit")

    assert (error.code, error.detail) == ("worker.unforeseen", "SystemExit: 0")


def test_the_last_call_of_a_native_crash_is_in_the_log(bench: Bench) -> None:
    failure(bench, "segfaults")

    assert "in segfaults" in bench.heard.text("output")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_from_outside(bench: Bench, ending: signal.Signals) -> None:
    directory = bench.directory("loops")
    killer = threading.Thread(target=lambda: os.kill(child_of(directory), ending))
    killer.start()
    killed = failure(bench, "loops", directory=directory)
    killer.join()

    assert killed.code == "worker.killed"
    assert ending.name in killed.detail


@pytest.mark.parametrize(
    "job",
    ["hogs_memory", "asks_for_too_much", "hogs_shared_memory", "throws_bad_alloc", "aborts_for_memory_in_rust"],
)
def test_too_much_memory(bench: Bench, job: str) -> None:
    assert failure(bench, job, limits=SMALL).code == "worker.oom"


@pytest.mark.parametrize(
    "job",
    [
        "fills_the_disk",
        "fills_the_disk_below_a_long_path",
        "writes_a_large_file",
        pytest.param("fills_files_without_a_name", marks=linux),
        pytest.param("fills_mapped_files_without_a_name", marks=root),
    ],
)
def test_too_much_disk(bench: Bench, job: str) -> None:
    assert failure(bench, job, limits=SMALL).code == "worker.disk"


@pytest.mark.parametrize("job", ["loops", "loops_in_threads"])
def test_too_much_time(bench: Bench, job: str) -> None:
    directory = bench.directory(job)
    late = failure(bench, job, directory=directory, limits=Limits(wall_s=1, memory_bytes=GIB, file_bytes=MIB))

    assert late.code == "worker.timeout"
    assert late.detail == "The job did not finish within 1 s."
    assert not psutil.pid_exists(child_of(directory))


def test_a_stop_ends_the_job_within_two_seconds(bench: Bench) -> None:
    directory = bench.directory("loops")
    asked: list[float] = []

    def should_stop() -> str | None:
        if not (directory / "pid").exists():
            return None
        asked.append(time.monotonic())
        return "canceled"

    outcome = bench.run("loops", directory=directory, should_stop=should_stop)

    assert outcome == Stopped("canceled")
    assert time.monotonic() - asked[0] < 2
    assert not psutil.pid_exists(child_of(directory))


def test_a_callback_that_fails_ends_the_job_and_reaches_the_caller(bench: Bench) -> None:
    directory = bench.directory("loops")

    def should_stop() -> str | None:
        if (directory / "pid").exists():
            raise ConnectionError("the database is gone")
        return None

    with pytest.raises(ConnectionError, match="the database is gone"):
        bench.run("loops", directory=directory, should_stop=should_stop)
    wait_until_gone(child_of(directory))


def test_progress_is_thinned_out_and_the_log_is_capped(bench: Bench) -> None:
    outcome = bench.run("says_a_lot")

    assert isinstance(outcome, WorkResult)
    assert len(bench.heard.progress) < 100
    assert bench.heard.progress[-1].message == "the very last"
    assert bench.heard.log[-1].message == "The log ends here: the job wrote more than 1 MiB."
    assert 900_000 < len(bench.heard.text()) < 1_200_000


def test_output_keeps_its_tail(bench: Bench) -> None:
    bench.run("talks_to_stderr")

    output = bench.heard.text("output")
    assert output.endswith("line 19999")
    assert 60 << 10 < len(output) <= 64 << 10


@pytest.mark.parametrize(
    "lines",
    [
        b"not json\n",
        b'{"kind":"progress"}\n',
        b'{"kind":"progress","stage":"s","step":1,"steps":1,"fraction":0.5}\n',
        b'{"kind":"progress","progress":{"stage":"s","step":"1","steps":1,"fraction":0.5}}\n',
        b'{"kind":"progress","progress":{"stage":"s","step":1,"steps":1,"fraction":NaN}}\n',
        b'{"kind":"progress","progress":{"stage":"s","step":1,"steps":1,"fraction":2}}\n',
        b'{"kind":"log","message":"m","surprise":1}\n',
        b'{"kind":"log","message":"\\ud800"}\n',
        b'{"kind":"log","message":"\xff"}\n',
        b'{"kind":"failed","failure":{"code":"../../x","detail":"","remedy":""}}\n',
        b'{"kind":"credentials"}\n',
        b"[" * 60_000 + b"\n",
        b"x" * 70_000,
        b'{"kind":"done"}\n{"kind":"log","message":"more"}\n',
    ],
)
def test_a_broken_protocol_is_a_crash(bench: Bench, lines: bytes) -> None:
    directory = bench.directory("hostile")
    (directory / "lines").write_bytes(lines)

    crash = failure(bench, "writes_to_its_parent", directory=directory)

    assert crash.code == "worker.crashed"
    assert "broke the protocol" in crash.detail


def test_texts_cannot_forge_lines_or_move_the_cursor(bench: Bench) -> None:
    directory = bench.directory("hostile")
    forged = "ok\n2026-01-01 ERROR forged \x1b[2J \u202e \u2028 \x85 \x00"
    line = {"kind": "failed", "failure": {"code": "model.load_failed", "detail": forged, "remedy": forged}}
    (directory / "lines").write_text(json.dumps({"kind": "log", "message": forged}) + "\n" + json.dumps(line) + "\n")

    outcome = failure(bench, "writes_to_its_parent_and_ends", directory=directory)

    assert outcome.code == "model.load_failed"
    for text in (outcome.detail, outcome.remedy, bench.heard.log[1].message):
        assert text == "ok\\n2026-01-01 ERROR forged \\x1b[2J \\u202e \\u2028 \\x85 \\x00"


def test_a_flood_does_not_reach_the_caller_and_ends_on_time(bench: Bench) -> None:
    limits = Limits(wall_s=2, memory_bytes=GIB, file_bytes=MIB)

    assert failure(bench, "floods_its_parent", limits=limits).code == "worker.timeout"
    assert len(bench.heard.progress) < 60


def result_json(*files: str) -> str:
    return result(order(), *files).model_dump_json()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_a_result_is_believed_only_after_a_check(bench: Bench) -> None:
    directory = bench.directory("claims")
    write(directory / "result.json", result_json("a.txt"))
    write(directory / "out/a.txt", "content")

    assert bench.run("claims", directory=directory) == result(order(), "a.txt")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: (d / "result.json").unlink(),
        lambda d: write(d / "result.json", "{}"),
        lambda d: write(d / "result.json", result_json("b.txt")),
        lambda d: write(d / "result.json", result_json("a.txt", "a.txt")),
        lambda d: write(d / "result.json", result_json("a.txt").replace("a.txt", "../order.json")),
        lambda d: write(d / "result.json", result_json("a.txt").replace("a.txt", "/etc/passwd")),
        lambda d: write(d / "result.json", result_json("a.txt") + " " * (17 << 20)),
        lambda d: (d / "result.json").rename(d / "r") and (d / "result.json").symlink_to(d / "r"),
        lambda d: (d / "out/a.txt").unlink() or (d / "out/a.txt").symlink_to("/etc/hostname"),
        lambda d: (d / "out/a.txt").unlink() or (d / "out/a.txt").hardlink_to(d / "order.json"),
        lambda d: (d / "out/a.txt").unlink() or os.mkfifo(d / "out/a.txt"),
        lambda d: (d / "out/a.txt").unlink() or (d / "out/a.txt").mkdir(),
        lambda d: (d / "out").rename(d / "elsewhere") and (d / "out").symlink_to(d / "elsewhere"),
    ],
)
def test_a_spoilt_result_is_a_crash(bench: Bench, spoil: object) -> None:
    directory = bench.directory("claims")
    write(directory / "result.json", result_json("a.txt"))
    write(directory / "out/a.txt", "content")
    spoil(directory)

    assert failure(bench, "claims", directory=directory).code == "worker.crashed"


def test_what_a_job_leaves_behind_is_deleted_however_deep_it_is(bench: Bench) -> None:
    outcome = bench.run("digs")

    assert isinstance(outcome, WorkResult), bench.heard.text()
    left = sorted(str(path.relative_to(bench.folder)) for path in bench.folder.rglob("*"))
    assert left == ["digs", "digs/order.json", "digs/out", "digs/out/kept.txt", "digs/result.json"]
    shutil.rmtree(bench.folder / "digs")  # and the caller can delete the rest as usual


def test_too_many_files(bench: Bench) -> None:
    full = failure(bench, "makes_many_files")

    assert full.code == "worker.disk"
    assert "files" in full.detail


def test_holes_in_files_count_as_what_the_store_would_be_given(bench: Bench) -> None:
    full = failure(bench, "delivers_holes", limits=SMALL)

    assert (full.code, full.detail) == ("worker.disk", "The job delivers more than 8 MiB.")


def test_a_folder_that_nobody_may_list_is_deleted(bench: Bench) -> None:
    assert isinstance(bench.run("leaves_a_shut_folder"), WorkResult), bench.heard.text()

    left = sorted(path.name for path in (bench.folder / "leaves_a_shut_folder").iterdir())
    assert left == ["order.json", "out", "result.json"]


def test_a_code_that_is_not_documented_is_a_crash(bench: Bench) -> None:
    error = failure(bench, "makes_a_code_up")

    assert error.code == "worker.crashed"
    assert "evil" not in error.detail + error.remedy


def test_what_is_asked_for_in_vain_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(bench.run("asks_in_vain"), WorkResult)

    assert len([line for line in caplog.messages if "in vain" in line]) == 1


def test_short_lines_and_short_stages_are_counted(bench: Bench) -> None:
    assert isinstance(bench.run("says_short_lines"), WorkResult)
    assert len(bench.heard.log) < 21_000
    assert isinstance(bench.run("begins_many_stages"), WorkResult)
    assert len(bench.heard.progress) < 2000


def test_two_jobs_at_once(bench: Bench) -> None:
    outcomes: dict[str, object] = {}

    def one(name: str) -> None:
        own = Bench(bench.job_sandbox, bench.folder)
        outcomes[name] = own.run("succeeds", directory=own.directory(name))

    threads = [threading.Thread(target=one, args=(f"job{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(isinstance(outcome, WorkResult) for outcome in outcomes.values())
    assert {outcome.report.notes[1] for outcome in outcomes.values()} == set(outcomes) == {f"job{n}" for n in range(4)}


def test_a_zygote_that_dies_takes_its_job_and_is_replaced(bench: Bench) -> None:
    directory = bench.directory("loops")
    before = bench.job_sandbox.zygote_pid

    def kill_the_zygote() -> None:
        child_of(directory)
        os.kill(before, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_zygote)
    killer.start()
    killed = failure(bench, "loops", directory=directory)
    killer.join()

    assert killed.code == "worker.killed"
    wait_until_gone(child_of(directory))
    assert isinstance(bench.run("succeeds"), WorkResult)
    assert bench.job_sandbox.zygote_pid != before


def test_a_zygote_that_died_between_jobs_is_replaced(bench: Bench) -> None:
    before = bench.job_sandbox.zygote_pid
    os.kill(before, signal.SIGKILL)

    assert isinstance(bench.run("succeeds"), WorkResult)
    assert bench.job_sandbox.zygote_pid != before


def test_a_killed_parent_leaves_nothing_behind(tmp_path: Path) -> None:
    directory = prepare(tmp_path / "loops")
    code = (
        "import sys; from pathlib import Path; from worker.runtime.job_sandbox import Limits, Listeners, JobSandbox\n"
        "scratch, directory = map(Path, sys.argv[1:])\n"
        "with JobSandbox(scratch, sandbox='best-effort', threads=1, "
        "entry='tests.support.runtime.jobs:loops') as job_sandbox:\n"
        "    (scratch / 'zygote').write_text(str(job_sandbox.zygote_pid))\n"
        "    job_sandbox.run(directory, Limits(600, 1 << 30, 1 << 20), Listeners())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "scratch", directory]) as parent:
        child = child_of(directory)
        zygote = int((tmp_path / "scratch/zygote").read_text())
        parent.kill()
    for pid in (zygote, child):
        wait_until_gone(pid)


def test_an_entry_that_does_not_exist_is_said_at_the_start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotStarted):
        JobSandbox(tmp_path, sandbox="best-effort", threads=1, entry="tests.worker.runtime.nothing:run").__enter__()

    assert "tests.worker.runtime.nothing" in capfd.readouterr().err


def child_of(directory: Path) -> int:
    """The number that the job wrote down, once it has."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (directory / "pid").exists() and (text := (directory / "pid").read_text()):
            return int(text)
        time.sleep(0.02)
    raise TimeoutError("the job did not begin")


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"{pid} still lives"
        time.sleep(0.02)
