"""A job cannot reach anything but its own directory."""

import json
import os
import platform
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.spec.work import WorkResult
from tests.support.runtime.bench import Bench
from worker.runtime.errors import SandboxUnavailable
from worker.runtime.jail.bpf import BpfProgram
from worker.runtime.jail.level import JailLevel
from worker.runtime.jail.seccomp import filter_for
from worker.runtime.jail.syscalls import ARCHITECTURES, LAST_REVIEWED
from worker.runtime.job_sandbox import JobSandbox

linux = pytest.mark.skipif(platform.system() != "Linux", reason="only rlimits elsewhere")
REFUSALS = {"EPERM", "EACCES", "ENOSYS", "EXDEV", "ENOTTY", "ENOTSUP"}
"""ENOSYS: calls that C libraries try first. ENOTTY, ENOTSUP: what file systems say that know no such thing.
EXDEV: Landlock's word for moving a file across its border."""


@pytest.fixture
def aim(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """Things outside that the parent could reach: what is refused below is refused by the jail."""
    monkeypatch.setenv("PARE_DATABASE_URL", "postgresql://pare:hunter2@db/pare")
    secret = bench.folder / "secret"
    secret.write_text("the other tenant's model")
    with (
        socket.socket() as listening,
        socket.socket(socket.AF_UNIX) as local,
        tempfile.TemporaryDirectory() as short,
    ):
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        local.bind(f"{short}/s")
        local.listen()
        yield {
            "secret": str(secret),
            "port": listening.getsockname()[1],
            "unix": f"{short}/s",
            "worker": os.getpid(),
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        }
    assert secret.read_text() == "the other tenant's model"
    assert sorted(path.name for path in bench.folder.iterdir()) == ["job", "secret"]


@linux
def test_every_way_out_is_closed(bench: Bench, aim: dict[str, object]) -> None:
    directory = bench.directory("job")
    (directory / "aim.json").write_text(json.dumps(aim))

    outcome = bench.run("tests.support.runtime.escapes:run", directory=directory)

    assert isinstance(outcome, WorkResult), bench.heard.text()
    tried = json.loads((directory / "out" / "tried.json").read_text())
    assert len(tried) > 50
    assert {name: how for name, how in tried.items() if how not in REFUSALS} == {}
    assert not (directory / "symbolic").is_symlink()


@linux
def test_nothing_of_the_parent_is_inherited(bench: Bench, aim: dict[str, object]) -> None:
    directory = bench.directory("job")
    (directory / "aim.json").write_text(json.dumps(aim))

    bench.run("tests.support.runtime.escapes:run", directory=directory)

    out = directory / "out"
    environ = json.loads((out / "environ.json").read_text())
    assert "hunter2" not in json.dumps(environ) + (out / "own-environ").read_text()
    assert {name for name in environ if name.startswith(("PARE_", "AWS_", "PYTEST"))} == set()
    assert environ["HOME"] == environ["TMPDIR"] == str(directory / "home")
    opened = json.loads((out / "files.json").read_text())
    assert [name for name in opened if not name.startswith(("pipe:", "/dev/null"))] == []


@linux
def test_the_level_says_what_a_child_found_out(job_sandbox: JobSandbox) -> None:
    assert job_sandbox.jail_level.complete, job_sandbox.jail_level
    assert job_sandbox.jail_level.summary["verified"] is True
    assert job_sandbox.devices[0]


def test_the_trial_finds_every_way_out_open_where_there_is_no_jail(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("seen")
    (tmp_path / "inside").mkdir()
    attempt = (
        "import sys, json, socket; from pathlib import Path; from worker.runtime.jail import trial\n"
        "with socket.socket() as s:\n"
        "    s.bind(('127.0.0.1', 0)); s.listen()\n"
        "    aim = trial.Trial(outside=Path(sys.argv[1]), port=s.getsockname()[1])\n"
        "    print(json.dumps(trial.attempt(aim, Path(sys.argv[1], 'inside'), file_bytes=1000)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", attempt, tmp_path], capture_output=True, text=True, check=True)

    open_ways = set(json.loads(ran.stdout))
    proc = set() if platform.system() == "Linux" else {"read the parent's environment"}
    assert (
        open_ways
        == {
            "read a file outside",
            "write a file outside",
            "connect to a port",
            "make a unix socket pair",
            "fork",
            "run a program",
            "signal the parent",
            "read the parent's environment",
            "make a link",
            "change a file's mode",
            "set a limit",
            "write a file over the limit",
        }
        - proc
    )


def test_a_missing_layer_or_an_escape_is_not_complete() -> None:
    whole = {"rlimits": True, "no_new_privs": True, "landlock": 5, "seccomp": True}

    assert JailLevel(**whole).complete
    assert not JailLevel(**{**whole, "landlock": 0}).complete
    assert not JailLevel(**{**whole, "seccomp": False}).complete
    assert not JailLevel(**whole, escapes=("fork",)).complete
    assert JailLevel(**{**whole, "landlock": 0}).summary["landlock"] is False


@linux
def test_require_refuses_to_start_where_a_way_out_is_open(tmp_path: Path) -> None:
    """The scratch space lies in a folder that every job may read, so one job could read another's files."""
    with tempfile.TemporaryDirectory(dir=sys.prefix) as readable:
        strict = JobSandbox(Path(readable), sandbox="require", threads=1, entry="tests.support.runtime.jobs:succeeds")
        with pytest.raises(SandboxUnavailable, match="could read a file outside"):
            strict.__enter__()
        assert strict.zygote_pid is None


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_decides_by_number_and_argument(machine: str) -> None:
    arch = ARCHITECTURES[machine]
    program = filter_for(arch, pid=4242, cuda=False)

    def decide(number: int, *arguments: int, audit: int = arch.audit) -> str:
        return interpret(program, number, audit, arguments)

    assert decide(arch.clone, 0x00010F00) == "allow"  # a thread
    assert decide(arch.clone, 17) == "errno 1"  # a process
    assert decide(arch.clone, 0x40010F00) == "errno 1"  # a thread in a new network namespace
    assert decide(arch.clone3) == "errno 38"
    assert decide(arch.tgkill, 4242, 4242, 6) == "allow"  # abort()
    assert decide(arch.tgkill, 1, 1, 9) == "errno 1"
    assert decide(arch.kill, 2**32 - 1, 9) == "errno 1"
    assert decide(arch.prlimit64, 0, 7, 0) == "allow"  # reading
    assert decide(arch.prlimit64, 0, 7, 1 << 32) == "errno 1"  # an address with an empty lower half
    assert decide(arch.prctl, 1) == "errno 1"
    assert decide(arch.prctl, 15) == "allow"
    assert decide(arch.fcntl, 3, 8) == "errno 1"
    assert decide(arch.fcntl, 3, 1) == "allow"
    assert decide(arch.socket, 1) == "errno 1"
    assert decide(LAST_REVIEWED + 1) == "errno 38"
    assert decide(0x40000000) == "kill"
    assert decide(0, audit=0x40000003) == "kill"  # 32-bit code
    assert decide({"x86_64": 59, "aarch64": 221}[machine]) == "errno 1"  # execve
    assert machine == "aarch64" or {decide(57), decide(58)} == {"errno 1"}  # fork, vfork
    assert decide({"x86_64": 9, "aarch64": 222}[machine]) == "allow"  # mmap
    affinity = {"x86_64": 203, "aarch64": 122}[machine]
    assert (decide(affinity, 0), decide(affinity, 4242)) == ("allow", "allow")  # for thread pools
    assert decide(affinity, 4243) == "errno 1"  # another process's
    assert decide(437) == "errno 38"  # openat2: its flags cannot be read
    openat, o_tmpfile = {"x86_64": 257, "aarch64": 56}[machine], 0o20200000
    assert decide(openat, 3, 0, 0o102) == "allow"
    assert decide(openat, 3, 0, o_tmpfile | 2) == "errno 95"
    assert machine == "aarch64" or decide(2, 0, o_tmpfile | 2) == "errno 95"
    # All of System V's and POSIX's IPC: get, attach, control, send, receive, operate.
    names = {"x86_64": [*range(29, 32), *range(64, 72), 220, *range(240, 246)], "aarch64": range(180, 198)}
    assert {decide(number) for number in names[machine]} == {"errno 1"}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("cuda", [False, True])
def test_an_ioctl_asks_a_descriptor_and_changes_no_file(machine: str, *, cuda: bool) -> None:
    arch = ARCHITECTURES[machine]
    program = filter_for(arch, pid=1, cuda=cuda)

    def decide(request: int) -> str:
        return interpret(program, {"x86_64": 16, "aarch64": 29}[machine], arch.audit, (3, request))

    assert {decide(request) for request in (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)} == {"allow"}
    attributes = (0x40086602, 0x401C5820, 0x40087602, 0x40049409, 0x5000940E, 0x50009401, 0x800C6613, 0x40806685)
    terminals = (0x5412, 0x540E, 0x541C)  # TIOCSTI types for another process
    assert {decide(request) for request in (*attributes, *terminals, 0x140086602)} == {"errno 25"}
    nvidia = (0xC020462A, 0xC00846C9, 0x30000001, 27)
    assert {decide(request) for request in nvidia} == {"allow" if cuda else "errno 25"}


def test_a_cuda_child_may_make_a_unix_socket_but_not_connect_it() -> None:
    arch = ARCHITECTURES["x86_64"]
    program = filter_for(arch, pid=1, cuda=True)

    assert interpret(program, arch.socket, arch.audit, (1,)) == "allow"
    assert interpret(program, arch.socket, arch.audit, (2,)) == "errno 1"
    assert interpret(program, 42, arch.audit, ()) == "errno 1"
    assert interpret(program, 46, arch.audit, ()) == "errno 1"


def interpret(program: BpfProgram, number: int, audit: int, arguments: tuple[int, ...]) -> str:
    """What the kernel would make of the filter: a second reading of the same instructions."""
    import struct

    data = struct.pack("=IIQ6Q", number, audit, 0, *(*arguments, *[0] * 6)[:6])
    code = list(struct.iter_unpack("=HBBI", program.assemble()))
    at = accumulator = 0
    while True:
        opcode, if_true, if_false, value = code[at]
        if opcode == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
            at += 1
        elif opcode == 0x54:
            accumulator &= value
            at += 1
        elif opcode == 0x06:
            return {0x7FFF0000: "allow", 0x80000000: "kill"}.get(value, f"errno {value & 0xFFFF}")
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[opcode]
            at += 1 + (if_true if holds else if_false)
