"""What the agent keeps between runs: which service it belongs to, and its credential, for its own user alone."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE = "agent.json"


class NotEnrolled(Exception):
    """There is no enrolment in the state directory."""


@dataclass(frozen=True)
class Enrolment:
    """Where the agent is enrolled, and as whom."""

    server: str
    agent: str
    credential: str
    allow_http: bool = False
    ca_file: str | None = None

    def save(self, directory: Path) -> None:
        """Write it, unreadable for others from its first byte on."""
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        part = directory / f"{FILE}.part"
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(asdict(self), file)
        part.replace(directory / FILE)

    @classmethod
    def load(cls, directory: Path) -> Enrolment:
        """Read the enrolment of a folder. Raises `NotEnrolled`."""
        try:
            return cls(**json.loads((directory / FILE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise NotEnrolled(f"There is no enrolment in {directory}: run `pare-agent enrol` first.") from None
        except (OSError, ValueError, TypeError) as error:
            raise NotEnrolled(f"{directory / FILE} cannot be read ({error}): enrol again.") from None
