"""A model runs in a process that is bounded in every respect, and its figures are its own."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from pare_agent import process
from pare_agent.process import Bounds, Stopped, TaskFailed

from tests.support.agent.tasks import BATCH, BATCHES, lay_out, rows
from tests.support.files import onnx_classifier

GIB = 1 << 30
AGENT = Path(process.__file__).parents[1]


def never() -> bool:
    return False


def test_outputs_are_those_of_the_runtime_and_times_come_in_pairs(tmp_path: Path) -> None:
    answer = process.run(lay_out(tmp_path), tmp_path, Bounds(GIB), never)

    session = ort.InferenceSession(onnx_classifier(), providers=["CPUExecutionProvider"])
    with np.load(tmp_path / "outputs.npz") as outputs:
        assert len(outputs.files) == BATCHES
        for number, batch in enumerate(rows()):
            (expected,) = session.run(None, {"x": batch})
            assert outputs[f"{number}/scores"].shape == (BATCH, 3)
            assert np.array_equal(outputs[f"{number}/scores"], expected)
    assert answer["runtime"] == f"ONNX Runtime {ort.__version__}"
    assert len(answer["before_ns"]) == len(answer["after_ns"]) == 20
    assert min(answer["before_ns"] + answer["after_ns"]) > 0
    assert 0 < answer["load_ms"] < 10_000
    assert 10 << 20 < answer["peak_memory_bytes"] < GIB
    assert answer["batch"] == 1


def test_a_checkout_is_run_without_the_rest_of_the_repository_on_the_path(tmp_path: Path) -> None:
    order = lay_out(tmp_path)
    program = (
        "import json, sys; from pathlib import Path; from pare_agent import process; "
        f"process.run(json.loads(sys.argv[1]), Path.cwd(), process.Bounds({GIB}), lambda: False)"
    )
    command = [sys.executable, "-c", program, json.dumps(order)]
    ran = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(AGENT)}, capture_output=True, check=False)

    assert ran.returncode == 0, ran.stderr


def test_more_threads_than_cores_are_not_used(tmp_path: Path) -> None:
    order = lay_out(tmp_path)
    answer = process.run(order | {"timing": order["timing"] | {"threads": 200}}, tmp_path, Bounds(GIB), never)

    assert answer["threads"] == len(os.sched_getaffinity(0))
    assert "200 were asked for" in answer["notes"][0]


@pytest.mark.parametrize("changed", [{"artifact": b"no model"}, {"rows": b"no rows"}, {"baseline": b""}])
def test_a_file_that_does_not_load_is_a_typed_failure(tmp_path: Path, changed: dict[str, bytes]) -> None:
    order = lay_out(tmp_path, **changed)
    with pytest.raises(TaskFailed) as failed:
        process.run(order, tmp_path, Bounds(GIB), never)

    assert failed.value.code == "agent.failed"
    assert str(tmp_path) not in failed.value.detail


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    order = lay_out(tmp_path)
    slow = order | {"deadline_s": 2.0, "timing": order["timing"] | {"runs": 10_000_000, "budget_s": 500.0}}
    started = time.monotonic()
    with pytest.raises(TaskFailed) as failed:
        process.run(slow, tmp_path, Bounds(GIB), never)

    assert failed.value.code == "agent.timed_out"
    assert time.monotonic() - started < 10


def test_a_process_over_its_memory_is_ended(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed) as failed:
        process.run(lay_out(tmp_path), tmp_path, Bounds(16 << 20), never)

    assert failed.value.code == "agent.out_of_memory"


def test_it_ends_when_asked_to(tmp_path: Path) -> None:
    order = lay_out(tmp_path)
    long = order | {"timing": order["timing"] | {"runs": 10_000_000, "budget_s": 500.0}}
    until = time.monotonic() + 1.5
    with pytest.raises(Stopped):
        process.run(long, tmp_path, Bounds(GIB), lambda: time.monotonic() > until)


def test_the_environment_of_the_agent_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "swordfish")

    assert "swordfish" not in json.dumps(process._environment(tmp_path))


def test_a_confined_process_reaches_neither_files_nor_network_nor_programs(tmp_path: Path) -> None:
    secret, work = tmp_path / "agent.json", tmp_path / "work"
    work.mkdir()
    secret.write_text("swordfish")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        attempts = textwrap.dedent(f"""
            import socket, subprocess, sys
            from pathlib import Path
            from pare_agent.confine import confine
            missing = confine(Path.cwd(), memory_bytes=1 << 30, cpu_s=60, file_bytes=1 << 20)
            def tried(attempt):
                try:
                    attempt()
                except OSError:
                    return "refused"
                return "done"
            print(missing, [tried(attempt) for attempt in (
                lambda: Path({str(secret)!r}).read_text(),
                lambda: Path({str(tmp_path / "new")!r}).write_text(""),
                lambda: socket.create_connection(("127.0.0.1", {listening.getsockname()[1]}), timeout=5),
                lambda: subprocess.run(["/bin/true"]),
                lambda: Path("large").write_bytes(bytes(2 << 20)),
                lambda: Path("small").write_bytes(bytes(1 << 10)),
            )])
        """)
        ran = subprocess.run(
            [sys.executable, "-c", attempts],
            cwd=work,
            env={"PYTHONPATH": str(AGENT)},
            check=False,
            capture_output=True,
            text=True,
        )

    missing, _, found = ran.stdout.strip().partition("] ")
    if missing != "[":
        pytest.skip(f"THIS KERNEL DOES NOT CONFINE {missing[1:]}")
    assert found == str([*["refused"] * 5, "done"]), ran.stderr
