"""The machine as it is, and as other kernels describe theirs."""

from pathlib import Path

import pytest

from worker.engine.measure.machine import (
    RELEVANT_FLAGS,
    _linux_cpu,
    _sysinfo_load,
    describe_machine,
    load_average,
)

X86 = """processor\t: 0
model name\t: AMD EPYC 7B13
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni
processor\t: 1
model name\t: another
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm asimddp i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""


def test_this_machine() -> None:
    machine = describe_machine()

    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory_bytes > 1 << 28
    assert set(machine.cpu_flags) <= set(RELEVANT_FLAGS)
    assert {"python", "onnxruntime", "onnx"} <= set(machine.versions)


@pytest.mark.parametrize(
    ("text", "name", "flag", "absent"),
    [(X86, "AMD EPYC 7B13", "avx512_vnni", "amx_int8"), (ARM, "implementer 0x41 part 0xd0b", "asimddp", "avx2")],
)
def test_what_kernels_write(tmp_path: Path, text: str, name: str, flag: str, absent: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)

    cpu, flags = _linux_cpu(tmp_path / "cpuinfo")

    assert cpu.endswith(name)
    assert flag in flags
    assert absent not in flags


def test_a_jail_that_hides_the_file(tmp_path: Path) -> None:
    assert _linux_cpu(tmp_path / "none") == ("", frozenset())


@pytest.mark.skipif(not Path("/proc/loadavg").exists(), reason="sysinfo is Linux's")
def test_load_without_the_file_is_the_same() -> None:
    assert _sysinfo_load() == pytest.approx(load_average(), abs=0.2)
