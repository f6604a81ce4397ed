"""Takes a job's result from a directory that hostile code could write to: plain files, sized, checked, no links."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from app.spec.work import WorkResult
from worker.runtime.delete_tree import delete_tree
from worker.runtime.errors import Crashed, OutOfDisk
from worker.runtime.untrusted_dir import UntrustedDir

RESULT: Final = "result.json"
OUT: Final = "out"
T = TypeVar("T", bound=BaseModel)


def read_result(directory: Path, model: type[T], *, max_bytes: int, max_artifact_bytes: int) -> T:
    """The checked result of a job that is over. Raises Crashed, OutOfDisk.

    Every artifact that a `WorkResult` names is then a regular file with one name in `directory/out`, and all of them
    together have at most `max_artifact_bytes`.
    """
    result = read_json(directory, RESULT, model, max_bytes=max_bytes)
    if isinstance(result, WorkResult):
        _require_artifacts(directory, [artifact.file for artifact in result.artifacts], max_artifact_bytes)
    return result


def read_json(directory: Path, name: str, model: type[T], *, max_bytes: int) -> T:
    """A JSON file of at most `max_bytes` that a child wrote. Raises Crashed."""
    try:
        with UntrustedDir(directory) as folder:
            content = folder.read(name, max_bytes=max_bytes)
    except OSError as error:
        raise Crashed(f"The job's result cannot be read: {error.strerror}.") from error
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise Crashed("The job's result does not have the form of a result.") from error


def delete_leftovers(directory: Path, artifacts: Collection[str]) -> None:
    """Leave of a job that is over its top-level files, and in `out` the artifacts.

    What cannot be deleted does not save the rest. Raises OSError, the first one, at the end.
    """
    errors: list[OSError] = []
    with os.scandir(directory) as entries:
        folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in folders:
        try:
            delete_tree(directory / name, artifacts if name == OUT else ())
            if name != OUT:
                (directory / name).rmdir()
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _require_artifacts(directory: Path, names: list[str], max_bytes: int) -> None:
    if len(set(names)) != len(names):
        raise Crashed("The job's result names an artifact twice.")
    left = max_bytes
    try:
        with UntrustedDir(directory) as folder, UntrustedDir(OUT, folder) as out:
            for name in names:
                with out.file(name) as file:
                    left -= os.fstat(file.fileno()).st_size  # a hole counts: the store would be given its zeros
    except OSError as error:
        raise Crashed(f"The job's result names an artifact that cannot be taken: {error.strerror}.") from error
    if left < 0:
        raise OutOfDisk(f"The job delivers more than {max_bytes >> 20} MiB.")
