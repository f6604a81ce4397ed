"""Deletes what hostile code left behind: trees too deep to walk by path or by recursion, folders nobody may enter."""

import os
import stat
from collections.abc import Collection
from pathlib import Path

from worker.runtime.untrusted_dir import open_folder


def delete_tree(directory: Path, keep: Collection[str] = ()) -> None:
    """Delete everything in `directory` but the plain files that `keep` names. Follows no links. Raises OSError.

    It holds one descriptor and goes down by name and up by `..`, which is safe because the job is over: a chain of
    100,000 folders, which `shutil.rmtree` answers with RecursionError and leaves on the disk, is just longer.
    """
    here = open_folder(directory)
    above: list[tuple[str, list[str]]] = []
    try:
        waiting = _folders_left(here, keep)
        while waiting or above:
            if waiting:
                name = waiting.pop()
                os.chmod(name, stat.S_IRWXU, dir_fd=here)  # it may have been made unreadable
                here = _moved(here, name)
                above.append((name, waiting))
                waiting = _folders_left(here, ())
            else:
                name, waiting = above.pop()
                here = _moved(here, "..")
                os.rmdir(name, dir_fd=here)
    finally:
        os.close(here)


def _moved(here: int, name: str) -> int:
    """The folder `name` in place of `here`, which is closed."""
    there = open_folder(name, here)
    os.close(here)
    return there


def _folders_left(here: int, keep: Collection[str]) -> list[str]:
    """Delete the folder's files; the names of its folders."""
    folders = []
    with os.scandir(here) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.name not in keep or not entry.is_file(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=here)
    return folders
