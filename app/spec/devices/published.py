"""Latencies that others have published, by device: `published.json` beside this file, with its sources."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from app.spec.base import Frozen

FILE = Path(__file__).with_name("published.json")


class Source(Frozen):
    """Where latencies stand, and how they were taken."""

    title: str
    url: str
    retrieved: str = Field(description="ISO date: the page changes.")
    about: str


class PublishedRun(Frozen):
    """Latencies of networks on one device with one number of threads."""

    threads: int = Field(ge=1, description="Of a GPU: those of the host that feeds it.")
    source: str
    latency_ms: dict[str, Annotated[float, Field(gt=0)]] = Field(
        description="By network, at batch 1; `…_int8` in integers."
    )


class PublishedDevice(Frozen):
    """A device, what bounds it, and what was published of it."""

    id: str
    title: str
    processor: str
    kind: Literal["cpu", "gpu"]
    cache_bytes: int = Field(description="Of the last level that all of its cores share.")
    bandwidth_bytes_per_s: float = Field(description="Of its memory, by the data sheet.")
    float_bytes: Literal[2, 4] = Field(description="In which the published runs keep floating-point numbers.")
    runs: tuple[PublishedRun, ...] = Field(min_length=1)

    @property
    def threads(self) -> tuple[int, ...]:
        """For which there are figures."""
        return tuple(run.threads for run in self.runs)


class Published(Frozen):
    """Everything in the file."""

    sources: dict[str, Source]
    devices: tuple[PublishedDevice, ...]


@lru_cache(maxsize=1)
def published() -> Published:
    """Read the file, once."""
    return Published.model_validate(json.loads(FILE.read_text(encoding="utf-8")))


def device_of(identity: str) -> PublishedDevice | None:
    """The device with this id; None if there is none."""
    return next((device for device in published().devices if device.id == identity), None)
