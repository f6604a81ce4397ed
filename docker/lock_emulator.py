"""Pin what the emulators are made of: `make lock-emulator` writes toolchains/emulator.txt and emulator-debian.txt.

Wheels: the releases that the worker (constraints.txt) and the LiteRT toolchain run, so that outputs can be compared bit
by bit, for x86-64 and aarch64. Debian packages: the newest of Debian 12, from an index whose signature is checked.
"""

import email.utils
import hashlib
import lzma
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

LOCKS = Path(__file__).parents[1] / "toolchains"
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PYTHON = ["python3.11-minimal", "libpython3.11-stdlib", "libstdc++6"]
ROOTS = {"amd64": ["qemu-user", "tcc", *PYTHON], "arm64": PYTHON}
"""tcc compiles the plugin that counts instructions, so that no compiler need be installed."""
WHEELS = {"numpy": "../constraints.txt", "onnxruntime": "../constraints.txt", "ai-edge-litert": "litert.txt"}
MACHINES = ("x86_64", "aarch64")
GLIBCS = (28, 27, 17)

Index = dict[str, dict[str, str]]


def main() -> None:
    """Write the locks of the packages and of the wheels."""
    date, digests = release()
    lines = ["# Debian 12, pinned by `make lock-emulator`: machine, SHA-256, path on a mirror.", f"# as of {date}"]
    for machine, roots in ROOTS.items():
        packages = index(machine, digests)
        names = sorted(closure(roots, packages))
        lines += [f"{machine} {packages[name]['SHA256']} {packages[name]['Filename']}" for name in names]
    (LOCKS / "emulator-debian.txt").write_text("\n".join(lines) + "\n")
    (LOCKS / "emulator.txt").write_text("".join(wheels()))


def release() -> tuple[str, dict[str, str]]:
    """When the archive last changed, as snapshot.debian.org writes it, and SHA-256 of its files by path."""
    with tempfile.NamedTemporaryFile() as signed:
        signed.write(fetched("dists/bookworm/InRelease"))
        signed.flush()
        signed_text = subprocess.run(  # noqa: S603  # Debian's own tool and key, no shell
            ["/usr/bin/gpgv", "--quiet", "--keyring", KEYRING, "--output", "-", signed.name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    (date,) = (line.partition(": ")[2] for line in signed_text.splitlines() if line.startswith("Date: "))
    rows = (line.split() for line in signed_text.partition("\nSHA256:\n")[2].splitlines())
    when = email.utils.parsedate_to_datetime(date.replace("UTC", "+0000"))
    return when.strftime("%Y%m%dT%H%M%SZ"), {row[2]: row[0] for row in rows if len(row) == 3}


def index(machine: str, digests: dict[str, str]) -> Index:
    """The packages of Debian 12 for a machine, by name."""
    path = f"main/binary-{machine}/Packages.xz"
    content = fetched(f"dists/bookworm/{path}")
    if hashlib.sha256(content).hexdigest() != digests[path]:
        sys.exit(f"{path} is not the file that Debian signed. Try again in a minute.")
    stanzas = (
        dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line.startswith(" "))
        for stanza in lzma.decompress(content).decode().split("\n\n")
    )
    return {stanza["Package"]: stanza for stanza in stanzas if stanza}


def closure(roots: list[str], packages: Index) -> set[str]:
    """The roots and the libraries that they need; tools for a running system are left out."""
    closed: set[str] = set()
    left = list(roots)
    while left:
        name = left.pop()
        if name not in closed:
            closed.add(name)
            left += [other for other in needed(packages[name]) if other.startswith("lib") or other == "zlib1g"]
    return closed


def needed(package: dict[str, str]) -> Iterator[str]:
    for field in ("Depends", "Pre-Depends"):
        for clause in package.get(field, "").split(","):
            yield clause.split("|")[0].split("(")[0].split(":")[0].strip()


def wheels() -> Iterator[str]:
    """A requirement with hashes for each wheel."""
    for name, file in sorted(WHEELS.items()):
        (pin,) = (line for line in (LOCKS / file).read_text().splitlines() if line.startswith(f"{name}=="))
        with tempfile.TemporaryDirectory() as folder:
            for machine in MACHINES:
                download(pin, machine, folder)
            digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir())
        yield f"{pin} \\\n" + " \\\n".join(f"    --hash=sha256:{digest}" for digest in digests) + "\n"


def download(pin: str, machine: str, folder: str) -> None:
    tags = [option for minor in GLIBCS for option in ("--platform", f"manylinux_2_{minor}_{machine}")]
    subprocess.run(  # noqa: S603  # pip, no shell
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            *tags,
            "--python-version",
            "3.11",
            "--implementation",
            "cp",
            "--dest",
            folder,
            pin,
        ],
        check=True,
    )


def fetched(path: str) -> bytes:
    with urllib.request.urlopen(f"{MIRROR}/{path}", timeout=60) as answer:  # noqa: S310  # a constant http address
        content: bytes = answer.read()
    return content


if __name__ == "__main__":
    main()
