"""Every reader of uploads, fuzzed: half a second in each run, a minute in the slow lane; the fuzzer finds faults."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.admission.errors import Broken
from tests.support.hostile.fuzz import loop
from tests.support.hostile.fuzz.__main__ import run
from tests.support.hostile.fuzz.readers import READERS
from tests.support.hostile.fuzz.seeds import SEEDS, write_seeds
from tests.support.root import ROOT

SECONDS, LONG_SECONDS = 0.5, 60.0
FEWEST_FILES = 10
"""On the most loaded machine: fewer would mean that the reader or the loop hangs."""


def fuzzed(name: str, folder: Path, *, seconds: float, seed: int) -> None:
    write_seeds(folder / name, name)
    outcome = run(name, folder, seconds=seconds, seed=seed)
    assert outcome.fault == "", f"{outcome.fault}\nrun: python -m tests.support.hostile.fuzz {name} --seed {seed}"
    assert outcome.files >= FEWEST_FILES
    assert outcome.refusals > 1


def test_every_reader_has_good_files_to_start_from() -> None:
    assert READERS.keys() == SEEDS.keys()


@pytest.mark.parametrize("name", READERS)
def test_a_reader_refuses_or_takes_what_it_is_given(name: str, tmp_path: Path) -> None:
    fuzzed(name, tmp_path, seconds=SECONDS, seed=0)


@pytest.mark.extended
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", READERS)
def test_a_reader_refuses_or_takes_it_for_a_minute(name: str, tmp_path: Path) -> None:
    fuzzed(name, tmp_path, seconds=LONG_SECONDS, seed=1)


@pytest.mark.skipif(sys.platform != "linux", reason="address space is not limited there")
def test_a_reader_that_takes_too_much_memory_is_found() -> None:
    """In a process of its own, whose limit stays."""
    taking = "from tests.support.hostile.fuzz.loop import MEMORY_BYTES, limit_memory as l; l(); bytearray({})"
    for amount, found in (("MEMORY_BYTES // 2", False), ("2 * MEMORY_BYTES", True)):
        command = [sys.executable, "-c", taking.format(amount)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ("MemoryError" in ran.stderr) == found, ran.stderr


def an_unforeseen_error(path: Path) -> None:
    if b"7" in path.read_bytes():
        raise IndexError


def no_end(path: Path) -> None:
    content = path.read_bytes()
    while b"7" in content:
        pass


def a_refusal(path: Path) -> None:
    if b"7" in path.read_bytes():
        raise Broken("it has a 7")


@pytest.mark.parametrize(
    ("reader", "fault"), [(an_unforeseen_error, "IndexError"), (no_end, "TooSlow"), (a_refusal, "")]
)
def test_the_loop_tells_a_fault_from_a_refusal(
    reader: object, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loop.READERS, "broken", reader)  # type: ignore[arg-type]
    monkeypatch.setattr(loop, "CPU_SECONDS", 0.05)
    outcome = loop.fuzz("broken", [b"0123456"], tmp_path / "file", seconds=0.5 if not fault else 20, seed=0)
    assert fault in outcome.fault
    assert (outcome.culprit is not None and b"7" in outcome.culprit) == bool(fault)
    assert outcome.refusals == (2 if not fault else outcome.refusals)
