"""What a job's process hands over is taken as a plain file of its own folder, or not at all."""

import os
from pathlib import Path

import pytest

from worker.runtime import untrusted_dir
from worker.runtime.errors import Crashed

MOST = 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "job" / "0"
    made.mkdir(parents=True)
    (tmp_path / "secret").write_text("swordfish")
    return made


def test_a_plain_file_is_copied(folder: Path, tmp_path: Path) -> None:
    (folder / "rows").write_bytes(b"x" * MOST)

    assert untrusted_dir.copy_out(folder, "rows", tmp_path / "copy", most=MOST).read_bytes() == b"x" * MOST


@pytest.mark.parametrize("made", ["link", "pipe", "folder", "large", "nothing", "folder is a link"])
def test_anything_else_is_refused_and_nobody_waits(folder: Path, tmp_path: Path, made: str) -> None:
    place = folder / "rows"
    match made:
        case "link":
            place.symlink_to(tmp_path / "secret")
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "large":
            place.write_bytes(b"x" * (MOST + 1))
        case "folder is a link":
            folder.rmdir()
            (tmp_path / "elsewhere").mkdir()
            (tmp_path / "elsewhere" / "rows").write_text("swordfish")
            folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Crashed):
        untrusted_dir.copy_out(folder, "rows", tmp_path / "copy", most=MOST)

    assert not (tmp_path / "copy").exists() or b"swordfish" not in (tmp_path / "copy").read_bytes()


def test_an_answer_does_not_follow_a_link_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "answer.json").symlink_to(tmp_path / "secret")
    untrusted_dir.put(folder, "answer.json", b"{}")

    assert (tmp_path / "secret").read_text() == "swordfish"
    assert (folder / "answer.json").read_bytes() == b"{}"
    (folder / "other.part").symlink_to(tmp_path / "new")
    with pytest.raises(OSError, match="exists"):
        untrusted_dir.put(folder, "other", b"{}")
    assert not (tmp_path / "new").exists()


def test_a_file_is_moved_in_over_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("outputs")
    (folder / "outputs").symlink_to(tmp_path / "secret")
    untrusted_dir.move_in(tmp_path / "ours", folder, "outputs")

    assert (folder / "outputs").read_text() == "outputs"
    assert not (folder / "outputs").is_symlink()
    assert (tmp_path / "secret").read_text() == "swordfish"
