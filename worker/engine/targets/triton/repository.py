"""A model repository as a `.zip`: `<name>/config.pbtxt`, and the artifact in `<name>/1/`."""

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

CONFIG, VERSION = "config.pbtxt", "1"
STAMP = (1980, 1, 1, 0, 0, 0)
"""Of files in the archive: the same model makes the same bytes."""


def write_repository(name: str, config: str, files: Sequence[Path], path: Path) -> Path:
    """Write the archive; its files are stored as they are, since weights hardly shrink."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}/{CONFIG}", STAMP), config)
        for file in files:
            entry = zipfile.ZipInfo(f"{name}/{VERSION}/{served_name(file, files)}", STAMP)
            entry.file_size = file.stat().st_size  # beyond 2 GB the entry has to say so at its start
            with file.open("rb") as source, archive.open(entry, "w") as into:
                shutil.copyfileobj(source, into)
    return path


def served_name(file: Path, files: Sequence[Path]) -> str:
    """`model.onnx`, `model.xml`, `model.bin`; tensors beside an ONNX file keep the name by which it knows them."""
    return f"model{file.suffix}" if file.stem == files[0].stem else file.name


def unpack_repository(path: Path, folder: Path) -> tuple[Path, ...]:
    """Write the artifact of an archive into the folder; the files in the order of `write_repository`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            inside = PurePosixPath(entry.filename)
            if inside.name == CONFIG or entry.is_dir():
                continue
            with archive.open(entry) as source, (folder / inside.name).open("wb") as into:
                shutil.copyfileobj(source, into)
            files.append(folder / inside.name)
    return tuple(files)
