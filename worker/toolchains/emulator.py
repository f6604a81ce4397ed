"""Emulated CPUs: artifacts run by the runtime's own build for them, under QEMU's user mode.

Sources: https://www.qemu.org/docs/master/user/main.html, and .../devel/tcg-plugins.html for counting instructions.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .emulated import FATAL, ILLEGAL
from .emulated_cpus import CPUS, Cpu
from .instructions import feature_of

ENVIRONMENT = Path(sys.prefix)
SITE = "site"
"""Where a machine's Python packages lie."""
PLUGIN = "count.so"
GUEST = Path(__file__).with_name("emulated.py")
ORDER, COUNTS, WORDS = "emulated.json", "instructions.txt", "emulated.log"
LAST_WORDS = 600
GRACE_S = 30.0
"""A program that is not over then, in spite of its timer, ends with the toolchain's own process."""


def version() -> dict[str, Any]:
    """Of QEMU and of the runtimes that it emulates."""
    answer = subprocess.run(  # noqa: S603  # of our own environment, no shell
        [*hosted(ENVIRONMENT, "qemu-aarch64"), "--version"], check=True, capture_output=True, text=True
    ).stdout
    return {
        "qemu": answer.split()[2],
        "onnxruntime": _release("onnxruntime"),
        "ai-edge-litert": _release("ai_edge_litert"),
    }


def run(
    cpu: str, artifact: str, feeds: list[str], into: list[str], few: str, runs: int, limit_s: float
) -> dict[str, Any]:
    """Run the artifact on the rows of each file of `feeds`, and `runs` times more on those of `few`.

    `signal`: what ended the program, if something did; for SIGILL with the instruction's bytes and, where it is known,
    the extension that it belongs to. `instructions`: of one run on `few`, null if the program did not get that far.
    """
    order = {"artifact": artifact, "feeds": feeds, "into": into, "few": few, "runs": runs}
    Path(ORDER).write_text(json.dumps(order), encoding="utf-8")
    Path(COUNTS).unlink(missing_ok=True)
    with Path(WORDS).open("wb") as words:
        program = subprocess.Popen(  # noqa: S603  # of our own environment, no shell
            emulated(ENVIRONMENT, cpu, ["-I", "-S", "-B", str(GUEST), str(_site(CPUS[cpu])), ORDER]),
            stdout=words,
            stderr=words,
            preexec_fn=lambda: _end_after(limit_s),  # noqa: PLW1509
        )
        status = program.wait(limit_s + GRACE_S)
    output = Path(WORDS).read_text(encoding="utf-8", errors="replace")
    answer: dict[str, Any] = {"instructions": _counted(runs), "signal": None, "words": output.strip()[-LAST_WORDS:]}
    if status in FATAL:
        answer |= {"signal": signal.Signals(status).name, **_instruction(CPUS[cpu], output)}
    elif status != 0:
        raise RuntimeError(f"The emulated program ended with status {status}: {answer['words']}")
    return answer


def hosted(environment: Path, program: str) -> list[str]:
    """The command of a program of this machine, with the environment's own loader and libraries."""
    root = environment / "amd64"
    libraries = [str(root / folder / "x86_64-linux-gnu") for folder in ("lib", "usr/lib")]
    loader = root / "lib" / "x86_64-linux-gnu" / "ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", ":".join(libraries), str(root / "usr" / "bin" / program)]


def emulated(environment: Path, cpu: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs Python with `arguments` on the CPU, counting instructions into `COUNTS`."""
    emulator = CPUS[cpu]
    python = environment / emulator.machine / "usr" / "bin" / "python3.11"
    return [
        *hosted(environment, emulator.qemu),
        "-L",
        str(environment / "cpus" / cpu),
        "-cpu",
        emulator.model,
        "-plugin",
        f"{environment / PLUGIN},into={COUNTS}",
        str(python),
        *arguments,
    ]


def _end_after(seconds: float) -> None:
    """A timer outlives exec; the jail lets no process be killed by another."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _counted(runs: int) -> float | None:
    marks = [int(line) for line in Path(COUNTS).read_text().split()] if Path(COUNTS).exists() else []
    return (marks[1] - marks[0]) / runs if len(marks) == 2 else None


def _instruction(cpu: Cpu, output: str) -> dict[str, Any]:
    codes = [line.removeprefix(ILLEGAL) for line in output.splitlines() if line.startswith(ILLEGAL)]
    if not codes:
        return {"instruction": None, "feature": None}
    code = bytes.fromhex(codes[-1])
    return {"instruction": code[:4].hex(), "feature": feature_of(code, cpu.machine)}


def _site(cpu: Cpu) -> Path:
    return ENVIRONMENT / cpu.machine / SITE


def _release(distribution: str) -> str:
    (folder,) = (ENVIRONMENT / "arm64" / SITE).glob(f"{distribution}-*.dist-info")
    return folder.name.removeprefix(f"{distribution}-").removesuffix(".dist-info")
