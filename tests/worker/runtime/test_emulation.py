"""What the emulators are made of is checked and unpacked by the standard library alone, where they can run."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.engine.toolchains.environments import Environments
from worker.runtime import debian, emulation, installing
from worker.runtime.debian import Package, PackageUnavailable
from worker.runtime.installing import install


def package(**files: str) -> bytes:
    """A .deb with these files; `link=target` makes a symbolic link of each name that ends in "link"."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./usr/lib/{name}")
            if name.endswith("link"):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))
        manual = tarfile.TarInfo("./usr/share/man/page")
        archive.addfile(manual)
    members = (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", inner.getvalue()))
    return b"!<arch>\n" + b"".join(
        f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
        for name, body in members
    )


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def pinned(content: bytes, path: str = "pool/one+1.deb") -> Package:
    return Package("amd64", hashlib.sha256(content).hexdigest(), path)


def test_files_are_unpacked_without_documentation(tmp_path: Path) -> None:
    debian.unpack(package(one="1", near_link="one", far_link="/usr/lib/one"), tmp_path)

    library = tmp_path / "usr" / "lib"
    assert (library / "one").read_text() == "1"
    assert (library / "near_link").read_text() == "1"
    assert (library / "far_link").read_text() == "1", "an absolute link stays below the folder"
    assert not (tmp_path / "usr" / "share").exists()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(tarfile.FilterError):
        debian.unpack(package(bad_link="../../../../etc/passwd"), tmp_path / "in")


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageUnavailable):
        debian.unpack(b"<html>not found</html>", tmp_path)


def test_the_next_place_has_what_the_mirror_has_dropped(mirror: tuple[Path, str]) -> None:
    folder, address = mirror
    content = package(one="1")
    (folder / "snapshot" / "pool").mkdir(parents=True)
    (folder / "snapshot" / "pool" / "one+1.deb").write_bytes(content)

    assert debian.fetch(pinned(content), [address, f"{address}/snapshot"]) == content


def test_another_content_is_refused(mirror: tuple[Path, str]) -> None:
    folder, address = mirror
    (folder / "pool").mkdir()
    (folder / "pool" / "one+1.deb").write_bytes(package(one="2"))

    with pytest.raises(PackageUnavailable, match="another SHA-256"):
        debian.fetch(pinned(package(one="1")), [address])


def test_the_lock_file_has_both_machines_and_a_date() -> None:
    packages = debian.locked(emulation.PACKAGES)

    assert {package.machine for package in packages} == {"amd64", "arm64"}
    assert all(len(package.sha256) == 64 and package.path.startswith("pool/main/") for package in packages)
    assert any("/qemu-user_" in package.path for package in packages)
    assert debian.sources(emulation.PACKAGES, "http://mirror/debian/")[0] == "http://mirror/debian"
    assert debian.sources(emulation.PACKAGES, "http://mirror/debian")[1].startswith(f"{debian.SNAPSHOT}/20")


def test_emulated_runtimes_are_the_releases_that_they_are_compared_with() -> None:
    root = emulation.LOCKS.parent
    wheels = [line.split()[0] for line in emulation.WHEELS.read_text().splitlines() if "==" in line]
    ours = {*(root / "constraints.txt").read_text().split(), *(root / "toolchains" / "litert.txt").read_text().split()}

    assert len(wheels) == 3
    assert set(wheels) <= ours, "run `make lock-emulator`"


def test_another_machine_installs_all_but_the_emulators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    environments = Environments(tmp_path)

    with pytest.raises(emulation.EmulationFailed, match="arm64"):
        install(["emulator"], environments, "http://mirror")
    monkeypatch.setattr(installing, "_make", lambda folder, lock: folder.mkdir())
    install(["openvino", "emulator"], environments, "http://mirror")

    assert environments.names() == ["openvino"]
    assert "emulator: left out" in capsys.readouterr().out
