"""What a job holds on disk, seen from outside: whatever it is called, wherever it lies, or it counts as too much."""

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.sizes import MIB
from worker.runtime import footprint

linux = pytest.mark.skipif(platform.system() != "Linux", reason="read from /proc")
MEBIBYTE = b"\x01" * MIB


def test_files_in_folders_count_once_each(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for place in ("x", "a/y", "a/b/z"):
        (tmp_path / place).write_bytes(MEBIBYTE)
    (tmp_path / "link").symlink_to("/usr")

    usage = footprint.disk(tmp_path)

    assert 3 * MIB <= usage.bytes < 3 * MIB + 64 * 1024
    assert (usage.entries, usage.hidden) == (6, "")


def test_what_lies_below_a_path_that_the_kernel_does_not_take(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("deep", dir_fd=here)
        deeper = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(file, MEBIBYTE)
    os.close(file)
    os.close(here)

    usage = footprint.disk(tmp_path)

    assert usage.bytes >= MIB
    assert (usage.entries, usage.hidden) == (2001, "")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize("mode", [0o300, 0o400, 0])
def test_a_folder_that_cannot_be_read_is_hidden(tmp_path: Path, mode: int) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "file").touch()
    closed.chmod(mode)

    assert "cannot be read" in footprint.disk(tmp_path).hidden

    closed.chmod(0o700)


def test_a_folder_that_moves_about_is_seen_or_hidden(tmp_path: Path) -> None:
    """It is renamed as fast as can be; a look that is cut short is repeated."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "moving").mkdir()
    (tmp_path / "a" / "moving" / "file").write_bytes(MEBIBYTE)
    over = threading.Event()

    def move() -> None:
        while not over.is_set():
            (tmp_path / "a" / "moving").rename(tmp_path / "b" / "moving")
            (tmp_path / "b" / "moving").rename(tmp_path / "a" / "moving")

    mover = threading.Thread(target=move)
    mover.start()
    try:
        looks = [footprint.disk(tmp_path) for _ in range(50)]
    finally:
        over.set()
        mover.join()

    assert any(look.hidden or look.bytes >= MIB for look in looks)


@linux
def test_files_that_have_lost_their_names(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "kept = open(sys.argv[1], 'wb'); os.unlink(sys.argv[1]); kept.write(bytes(1) * (3 << 20)); kept.flush()\n"
        "twice = os.dup(kept.fileno()); named = open(sys.argv[1], 'wb'); named.write(bytes(5 << 20)); named.flush()\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        held = footprint.nameless_bytes(tmp_path, child.pid, alone=True)
        of_parent = footprint.nameless_bytes(tmp_path, os.getpid(), alone=False)
        child.communicate(b"")

    assert 3 * MIB <= held < 3 * MIB + 64 * 1024
    assert of_parent >= held
    assert footprint.nameless_bytes(tmp_path, child.pid, alone=True) == 0
