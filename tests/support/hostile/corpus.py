"""Every hostile file, written to a folder: for the readers' own tests, and for uploading them all over HTTP."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.hostile import (
    archives,
    datasets,
    keras_files,
    onnx_files,
    other_formats,
    picture_archives,
    pt2_files,
    tables,
    weights_files,
)
from tests.support.hostile.payloads import Payloads

MARKS = "marks"


@dataclass(frozen=True)
class HostileFile:
    """A file on disk and every code that is a right answer to it.

    `codes` may hold "ok" (harmless), and `worker.*` or `model.load_failed`: admission lets the file in, its job must
    fail with one of them.
    """

    name: str
    path: Path
    kind: Literal["model", "dataset"]
    codes: frozenset[str]
    architecture: str | None
    """What a client declares with it, as JSON."""


Corpus = tuple[Path, list[HostileFile]]
"""The folder of the hostile files, and the files in it."""


def write_corpus(directory: Path) -> list[HostileFile]:
    """Write all files below `directory`; a payload that runs creates a file in `directory / "marks"`."""
    payloads = Payloads(directory / MARKS)
    (directory / MARKS).mkdir(parents=True)
    everything = [
        *archives.files(),
        *datasets.files(payloads),
        *onnx_files.files(),
        *pt2_files.files(payloads),
        *other_formats.files(payloads),
        *weights_files.files(payloads),
        *picture_archives.files(),
        *tables.files(),
        *keras_files.files(),
    ]
    written = []
    for hostile in everything:
        path = directory / f"{hostile.name}.bin"
        path.write_bytes(hostile.content)
        written.append(HostileFile(hostile.name, path, hostile.kind, hostile.codes, hostile.architecture))
    return written


def executed(directory: Path) -> list[str]:
    """The payloads that ran."""
    return sorted(mark.name for mark in (directory / MARKS).iterdir())
