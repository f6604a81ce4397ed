"""Where the toolchains' environments lie, and how a process of one is started."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import worker
from app.spec.targets import ToolchainName

NAMES: Final[tuple[ToolchainName, ...]] = get_args(ToolchainName)
_BESIDE: Final = Path(worker.__path__[0]).parent / "toolchains"
LOCKS: Final = _BESIDE if _BESIDE.is_dir() else Path(sys.prefix) / "share" / "pare" / "toolchains"
"""The lock files: of a source tree, or of an installed package."""
SERVE: Final = Path(worker.__path__[0]) / "toolchains" / "serve.py"
STAMP: Final = "pare-lock.sha256"
"""Written into an environment when it is complete: the digest of the lock file that it was made from."""


@dataclass(frozen=True)
class Environments:
    """The virtual environments below one folder, `<root>/<name>` each."""

    root: Path

    def folder(self, name: ToolchainName) -> Path:
        """Where the toolchain's environment is, or would be."""
        return self.root.absolute() / name

    def installed(self, name: ToolchainName) -> bool:
        """Whether it is there, and was made from the present lock file."""
        try:
            return (self.folder(name) / STAMP).read_text() == digest(name)
        except OSError:
            return False

    def names(self) -> list[ToolchainName]:
        """The toolchains that are installed."""
        return [name for name in NAMES if self.installed(name)]

    def command(self, name: ToolchainName) -> list[str]:
        """What starts a process of the toolchain, in the folder that it is to share."""
        return [str(self.folder(name) / "bin" / "python"), "-I", "-B", "-X", "utf8", str(SERVE), name]


def digest(name: ToolchainName) -> str:
    """SHA-256 of what it is made from (`<name>.txt`, `<name>-….*`) and of the Python version that it is for."""
    version = ".".join(map(str, sys.version_info[:2]))
    files = sorted(LOCKS.glob(f"{name}[.-]*"))
    return hashlib.sha256(version.encode() + b"".join(file.read_bytes() for file in files)).hexdigest()
