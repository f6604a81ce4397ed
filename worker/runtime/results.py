"""Takes a job's result from a directory that hostile code could write to: plain files, sized, checked, no links."""

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from app.spec.compatibility import Compatibilities
from app.spec.inspection import Inspection
from app.spec.work import WorkKind, WorkResult
from worker.runtime.delete_tree import clear
from worker.runtime.errors import Crashed

MAX_RESULT_BYTES: Final = 16 << 20
MAX_LOOK_BYTES: Final = 2 << 20
"""It is kept in a row: 2000 groups of channels take 400 KiB."""
Look = Inspection | Compatibilities
LOOKS: Final[dict[WorkKind, type[Inspection] | type[Compatibilities]]] = {
    "inspect": Inspection,
    "compatibility": Compatibilities,
}
"""What looking at a model yields; it has no artifacts."""
RESULT: Final = "result.json"
OUT: Final = "out"
T = TypeVar("T", bound=BaseModel)


def collect(directory: Path) -> WorkResult:
    """The checked result of a job that is over. Raises Crashed.

    Every artifact it names is then a regular file with one name in `directory/out`.
    """
    with _folder(directory, None) as root:
        result = _parsed(root, RESULT, WorkResult)
        names = [artifact.file for artifact in result.artifacts]
        if len(set(names)) != len(names):
            raise Crashed("The job's result names an artifact twice.")
        with _folder(OUT, root) as out:
            for name in names:
                with _file(name, out):
                    pass
    return result


def collect_look(directory: Path, kind: WorkKind) -> Look:
    """The checked result of a look at a model that is over. Raises Crashed."""
    return read_report(directory, RESULT, LOOKS[kind], most=MAX_LOOK_BYTES)


def tidy(directory: Path, artifacts: Collection[str]) -> None:
    """Leave of a job that is over its top-level files, and in `out` the artifacts; delete every other folder."""
    with os.scandir(directory) as entries:
        folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in folders:
        clear(directory / name, artifacts if name == OUT else ())
        if name != OUT:
            (directory / name).rmdir()


def read_report(directory: Path, name: str, model: type[T], *, most: int = MAX_RESULT_BYTES) -> T:
    """A JSON file of at most `most` bytes that a child wrote. Raises Crashed."""
    with _folder(directory, None) as root:
        return _parsed(root, name, model, most)


def _parsed(root: int, name: str, model: type[T], most: int = MAX_RESULT_BYTES) -> T:
    with _file(name, root) as fd:
        if os.fstat(fd).st_size > most:
            raise Crashed("The job's result is too large.")
        content = bytearray()
        while chunk := os.read(fd, 1 << 20):
            content += chunk
            if len(content) > most:
                raise Crashed("The job's result is too large.")
    try:
        return model.model_validate_json(bytes(content))
    except ValidationError as error:
        raise Crashed("The job's result does not have the form of a result.") from error


@contextmanager
def _folder(path: Path | str, inside: int | None) -> Iterator[int]:
    fd = _opened(path, os.O_DIRECTORY, inside)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _file(name: str, inside: int) -> Iterator[int]:
    fd = _opened(name, os.O_NONBLOCK, inside)  # a FIFO would block the parent for good
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise Crashed("The job's result names something that is not a plain file.")
        yield fd
    finally:
        os.close(fd)


def _opened(path: Path | str, flags: int, inside: int | None) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=inside)
    except OSError as error:
        raise Crashed("The job's result is incomplete: a file is missing or cannot be read.") from error
