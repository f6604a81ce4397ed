"""Deletes what hostile code left behind: trees too deep to walk by path or by recursion, folders nobody may enter."""

import os
import stat
from collections.abc import Collection
from pathlib import Path

from worker.runtime.untrusted_dir import open_folder


def delete_tree(directory: Path, keep: Collection[str] = ()) -> None:
    """Delete everything in `directory` but the plain files that `keep` names. Follows no links.

    It holds one descriptor and goes down by name and up by `..`, which is safe because the job is over: a chain of
    100,000 folders, which `shutil.rmtree` answers with RecursionError and leaves on the disk, is just longer.
    What cannot be deleted does not save the rest. Raises OSError, the first one, at the end.
    """
    errors: list[OSError] = []
    if not directory.is_symlink():
        directory.chmod(stat.S_IRWXU)  # it may have been made unreadable
    here = open_folder(directory)
    above: list[tuple[str, list[str]]] = []
    try:
        waiting = _folders_left(here, keep, errors)
        while waiting or above:
            if waiting:
                name = waiting.pop()
                try:
                    os.chmod(name, stat.S_IRWXU, dir_fd=here)
                    here = _moved(here, name)
                except OSError as error:
                    errors.append(error)
                    continue
                above.append((name, waiting))
                waiting = _folders_left(here, (), errors)
            else:
                name, waiting = above.pop()
                here = _moved(here, "..")
                try:
                    os.rmdir(name, dir_fd=here)
                except OSError as error:
                    errors.append(error)
    finally:
        os.close(here)
    if errors:
        raise errors[0]


def _moved(here: int, name: str) -> int:
    """The folder `name` in place of `here`, which is closed."""
    there = open_folder(name, here)
    os.close(here)
    return there


def _folders_left(here: int, keep: Collection[str], errors: list[OSError]) -> list[str]:
    """Delete the folder's files; the names of its folders."""
    folders = []
    with os.scandir(here) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.name not in keep or not entry.is_file(follow_symlinks=False):
                try:
                    os.unlink(entry.name, dir_fd=here)
                except OSError as error:
                    errors.append(error)
    return folders
