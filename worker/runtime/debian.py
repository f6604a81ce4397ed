"""Debian packages without Debian's tools and without root: fetched from a mirror, checked, unpacked into a folder.

Source: deb(5) and ar(5). A package is an `ar` archive whose member `data.tar.xz` holds the files.
"""

import hashlib
import http.client
import io
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import PareError

SNAPSHOT: Final = "https://snapshot.debian.org/archive/debian"
"""Keeps what mirrors drop when Debian moves on."""
ATTEMPTS: Final = 2
TIMEOUT_S: Final = 60
MAGIC: Final = b"!<arch>\n"
HEADER_BYTES: Final = 60
UNNEEDED: Final = ("./usr/share/", "./var/")
"""Documentation and translations, and folders of running systems."""


class PackageUnavailable(PareError):
    """A pinned Debian package could not be fetched, or what came is not what was pinned."""

    code, status = "emulator.package_unavailable", 500
    remedy = "Set PARE_DEBIAN_MIRROR to a mirror that this machine reaches, and install again."


@dataclass(frozen=True)
class Package:
    """One line of a lock file: the machine it is for, SHA-256, and its path on every mirror."""

    machine: str
    sha256: str
    path: str


def locked(lock: Path) -> list[Package]:
    """The packages of a lock file, in its order."""
    lines = (line.split() for line in lock.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return [Package(*line) for line in lines]


def sources(lock: Path, mirror: str) -> list[str]:
    """Where to look: the mirror, then the archive as it was on the lock file's date."""
    (date,) = (line.split()[-1] for line in lock.read_text(encoding="utf-8").splitlines() if line.startswith("# as of"))
    return [mirror.rstrip("/"), f"{SNAPSHOT}/{date}"]


def fetch(package: Package, places: list[str]) -> bytes:
    """The package's content, from the first place that has it. Raises `PackageUnavailable`."""
    reason = ""
    for place in [place for place in places for _ in range(ATTEMPTS)]:
        try:
            with urllib.request.urlopen(  # noqa: S310  # the operator's own mirror; the digest decides
                f"{place}/{urllib.parse.quote(package.path)}", timeout=TIMEOUT_S
            ) as answer:
                content: bytes = answer.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"{place} answered {type(error).__name__}: {error}"
            continue
        if hashlib.sha256(content).hexdigest() == package.sha256:
            return content
        reason = f"{place} has a file with another SHA-256"
    raise PackageUnavailable(f"{package.path} could not be fetched: {reason}.")


def unpack(content: bytes, into: Path) -> None:
    """Write a package's files below `into`; links may not lead out of it. Raises `PackageUnavailable`."""
    data = next((body for name, body in _members(content) if name.startswith("data.tar")), None)
    if data is None:
        raise PackageUnavailable("A package is no archive that Debian 12 makes.")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(into, filter=_wanted)  # noqa: S202  # the filter is the standard library's, and stricter


def _wanted(member: tarfile.TarInfo, into: str) -> tarfile.TarInfo | None:
    if member.name.startswith(UNNEEDED):
        return None
    if member.issym() and member.linkname.startswith("/"):  # absolute in a root of its own: there is none here
        depth = len(Path(member.name).parent.parts)
        member = member.replace(linkname="../" * depth + member.linkname.lstrip("/"), deep=False)
    return tarfile.data_filter(member, into)


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member of an `ar` archive."""
    if not content.startswith(MAGIC):
        return
    at = len(MAGIC)
    while at + HEADER_BYTES <= len(content):
        header = content[at : at + HEADER_BYTES]
        size = int(header[48:58])
        at += HEADER_BYTES
        yield header[:16].decode().strip().rstrip("/"), content[at : at + size]
        at += size + size % 2
