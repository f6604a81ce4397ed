"""What a job's process hands over is taken as a plain file of its own folder, or not at all."""

import os
from pathlib import Path

import pytest

from worker.runtime.untrusted_dir import NotPlain, UntrustedDir

MAX_BYTES = 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "job" / "0"
    made.mkdir(parents=True)
    (tmp_path / "secret").write_text("swordfish")
    return made


def test_a_plain_file_is_read_digested_and_copied(folder: Path, tmp_path: Path) -> None:
    content = b"x" * MAX_BYTES
    (folder / "rows").write_bytes(content)

    with UntrustedDir(folder) as place:
        assert place.read("rows", max_bytes=MAX_BYTES) == content
        assert place.sha256("rows") == "09ecb6ebc8bcefc733f6f2ec44f791abeed6a99edf0cc31519637898aebd52d8"
        place.copy_out("rows", tmp_path / "copy", max_bytes=MAX_BYTES)
    assert (tmp_path / "copy").read_bytes() == content


def spoil(folder: Path, kind: str) -> None:
    place, secret = folder / "rows", folder.parents[1] / "secret"
    match kind:
        case "link":
            place.symlink_to(secret)
        case "second name":
            place.hardlink_to(secret)
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "large":
            place.write_bytes(b"x" * (MAX_BYTES + 1))
        case "folder is a link":
            folder.rmdir()
            (folder.parent / "elsewhere").mkdir()
            (folder.parent / "elsewhere" / "rows").write_text("swordfish")
            folder.symlink_to(folder.parent / "elsewhere")


KINDS = ("link", "second name", "pipe", "folder", "large", "nothing", "folder is a link")


@pytest.mark.parametrize("kind", KINDS)
def test_anything_else_is_refused_and_nobody_waits(folder: Path, tmp_path: Path, kind: str) -> None:
    spoil(folder, kind)

    with pytest.raises(OSError), UntrustedDir(folder) as place:  # each kind has its own number
        place.read("rows", max_bytes=MAX_BYTES)
    with pytest.raises(OSError), UntrustedDir(folder) as place:
        place.copy_out("rows", tmp_path / "copy", max_bytes=MAX_BYTES)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "large"])
def test_only_a_plain_file_gets_a_second_name(folder: Path, tmp_path: Path, kind: str) -> None:
    spoil(folder, kind)

    with pytest.raises(OSError), UntrustedDir(folder) as place:
        place.link_out("rows", tmp_path / "version")
    assert not (tmp_path / "version").exists()
    assert not (tmp_path / "version").is_symlink()


def test_a_file_that_grows_while_it_is_read_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "rows").write_bytes(b"x")
    with UntrustedDir(folder) as place, place.file("rows", max_bytes=MAX_BYTES) as file:
        (folder / "rows").write_bytes(b"x" * (MAX_BYTES + 1))
        assert len(file.read()) > MAX_BYTES  # the size when it was opened says nothing about later

    with UntrustedDir(folder) as place, pytest.raises(NotPlain, match="too large"):
        place.read("rows", max_bytes=MAX_BYTES)


def test_what_became_a_link_after_its_folder_was_opened_is_not_followed(folder: Path, tmp_path: Path) -> None:
    with UntrustedDir(folder) as place:
        folder.rename(tmp_path / "moved")
        folder.symlink_to(tmp_path)

        with pytest.raises(FileNotFoundError):
            place.read("secret", max_bytes=MAX_BYTES)


def test_an_answer_does_not_follow_a_link_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "answer.json").symlink_to(tmp_path / "secret")
    (folder / "other.part").symlink_to(tmp_path / "new")

    with UntrustedDir(folder) as place:
        place.put("answer.json", b"{}")
        with pytest.raises(FileExistsError):
            place.put("other", b"{}")
    assert (tmp_path / "secret").read_text() == "swordfish"
    assert (folder / "answer.json").read_bytes() == b"{}"
    assert not (tmp_path / "new").exists()


def test_a_file_is_moved_in_over_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("outputs")
    (folder / "outputs").symlink_to(tmp_path / "secret")
    with UntrustedDir(folder) as place:
        place.move_in(tmp_path / "ours", "outputs")

    assert (folder / "outputs").read_text() == "outputs"
    assert not (folder / "outputs").is_symlink()
    assert (tmp_path / "secret").read_text() == "swordfish"
